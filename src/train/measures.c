/* Lists of named numbers. */

#include "train/measures.h"

#include <math.h>
#include <string.h>

#include "core/context.h"
#include "io/json.h"

struct strata_measures {
    strata_measure *item;
    int32_t count;
};

strata_status sti_measures_create(strata_measures **out)
{
    *out = sti_heap(sizeof **out);
    return *out ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "out of memory");
}

strata_status sti_measures_add(strata_measures *m, const char *name, const char *help, int64_t count,
                               const double *value)
{
    const size_t have = (size_t)m->count * sizeof *m->item;
    double *copy = sti_heap((size_t)STI_MAX(count, (int64_t)1) * sizeof *copy);
    strata_measure *p = copy ? sti_heap_grow(m->item, have, have + sizeof *p) : NULL;
    if (!p) {
        sti_heap_free(copy);
        return sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    memcpy(copy, value, (size_t)count * sizeof *copy);
    m->item = p;
    p[m->count++] = (strata_measure){ .name = name, .help = help, .count = count, .value = copy };
    return STRATA_OK;
}

void sti_measures_put(const strata_measures *m, sti_text *t)
{
    for (int32_t i = 0; i < m->count; i++) {
        const strata_measure *x = &m->item[i];
        sti_text_add(t, "%s\"%s\":%s", i ? "," : "", x->name, x->count == 1 ? "" : "[");
        for (int64_t k = 0; k < x->count; k++) {
            if (k) sti_text_add(t, ",");
            sti_json_put_number(t, x->value[k]); /* NaN becomes null */
        }
        if (x->count != 1) sti_text_add(t, "]");
    }
}

int32_t strata_measures_count(const strata_measures *m)
{
    return m ? m->count : 0;
}

strata_status strata_measures_at(const strata_measures *m, int32_t i, strata_measure *out)
{
    if (!m || !out) return sti_fail(STRATA_E_INVALID, "strata_measures_at: a NULL argument");
    if (i < 0 || i >= m->count) return sti_fail(STRATA_E_INVALID, "measure %d of %d", (int)i, (int)m->count);
    *out = m->item[i];
    return STRATA_OK;
}

static double *values_of(const strata_measure *x)
{
    union {
        const double *in;
        double *out;
    } u = { .in = x->value };
    return u.out;
}

void strata_measures_destroy(strata_measures *m)
{
    if (!m) return;
    for (int32_t i = 0; i < m->count; i++) sti_heap_free(values_of(&m->item[i]));
    sti_heap_free(m->item);
    sti_heap_free(m);
}
