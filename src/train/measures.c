/* Lists of named numbers: measured, and read back from the metrics of a run. */

#include "train/measures.h"

#include <math.h>
#include <string.h>

#include "core/context.h"
#include "io/json.h"
#include "io/map.h"
#include "io/metrics.h"

struct strata_measures {
    strata_measure *item;
    int32_t count;
    sti_json *names; /* of lists that were read: where the names lie. owned */
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
    sti_json_free(m->names);
    sti_heap_free(m);
}

/* ---- out of a row of metrics -------------------------------------------------------------------------------- */
static double number_of(const sti_json_node *n)
{
    return n->type == STI_JSON_NUMBER ? n->num : (double)NAN;
}

/* A member that is a number, null, or an array of those; others are none of ours. */
static strata_status add_member(strata_measures *m, const sti_json *j, const sti_json_node *n)
{
    if (n->type == STI_JSON_NUMBER || n->type == STI_JSON_NULL)
        return sti_measures_add(m, n->key, "", 1, &(double){ number_of(n) });
    if (n->type != STI_JSON_ARRAY) return STRATA_OK;
    double *value = sti_heap((size_t)STI_MAX(n->count, 1) * sizeof *value);
    if (!value) return sti_fail(STRATA_E_MEMORY, "out of memory");
    int64_t count = 0;
    for (const sti_json_node *x = sti_json_first(j, n); x; x = sti_json_next(j, x)) value[count++] = number_of(x);
    strata_status st = sti_measures_add(m, n->key, "", count, value);
    sti_heap_free(value);
    return st;
}

/* The measures of one row, NULL when it has none; takes j over. */
static strata_status of_row(sti_json *j, strata_measures **out)
{
    const sti_json_node *root = sti_json_root(j);
    strata_status st = sti_measures_create(out);
    if (st != STRATA_OK) {
        sti_json_free(j);
        return st;
    }
    (*out)->names = j;
    for (const sti_json_node *n = sti_json_first(j, root); n && st == STRATA_OK; n = sti_json_next(j, n))
        if (!sti_metrics_is_field(n->key)) st = add_member(*out, j, n);
    if (st == STRATA_OK && (*out)->count > 0) return STRATA_OK;
    strata_measures_destroy(*out);
    *out = NULL;
    return st;
}

/* The last row that has some. The file was seen to be one of metrics. */
static strata_status last_row(const char *text, size_t bytes, strata_measures **out)
{
    for (size_t end = bytes; end > 0 && !*out;) {
        size_t begin = end;
        while (begin > 0 && text[begin - 1] != '\n') begin--;
        sti_json *j = NULL;
        strata_status st = end > begin ? sti_json_parse(text + begin, end - begin, &j) : STRATA_OK;
        if (st == STRATA_OK && j) st = of_row(j, out);
        if (st != STRATA_OK && (st != STRATA_E_FORMAT || end != bytes)) return st; /* a last line may be cut off */
        end = begin > 0 ? begin - 1 : 0;
    }
    return STRATA_OK;
}

strata_status strata_metrics_measures(const char *dir, strata_measures **out)
{
    if (!dir || !out) return sti_fail(STRATA_E_INVALID, "strata_metrics_measures: a pointer is NULL");
    *out = NULL;
    sti_text path = { 0 };
    sti_map map = { 0 };
    sti_text_add(&path, "%s/metrics.jsonl", dir);
    strata_status st = path.failed ? sti_fail(STRATA_E_MEMORY, "out of memory") : sti_map_open(path.s, &map);
    if (st == STRATA_OK) {
        st = last_row((const char *)map.data, map.bytes, out);
        if (st != STRATA_OK) st = sti_fail_prefix(st, "%s", path.s);
    }
    sti_map_close(&map);
    sti_text_free(&path);
    return st;
}
