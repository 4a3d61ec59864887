#include "core/param.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "core/philox.h"

enum { PAD = 16 }; /* elements: a slice starts on a cache line in f32 and f64 */

void sti_params_free(sti_params *t)
{
    for (int32_t i = 0; i < t->count; i++) {
        sti_heap_free(t->p[i].name);
        sti_heap_free(t->p[i].columns);
    }
    sti_heap_free(t->p);
    memset(t, 0, sizeof *t);
}

static strata_status grow(sti_params *t)
{
    if (t->count < t->cap) return STRATA_OK;
    int32_t cap = t->cap ? 2 * t->cap : 8;
    sti_param *p = sti_heap_grow(t->p, (size_t)t->cap * sizeof *p, (size_t)cap * sizeof *p);
    if (!p) return sti_fail(STRATA_E_MEMORY, "no memory for %d parameters", cap);
    t->p = p;
    t->cap = cap;
    return STRATA_OK;
}

strata_status sti_params_add(sti_params *t, const char *name, int32_t ndim, const int64_t *shape, sti_init_kind init,
                             double init_value, double natural, double lr_mult)
{
    sti_param p = { .ndim = ndim,
                    .count = 1,
                    .offset = t->elements,
                    .init = init,
                    .init_value = init_value,
                    .scale = natural,
                    .lr_mult = lr_mult,
                    .tied = -1 };
    for (int32_t i = 0; i < ndim; i++) {
        p.shape[i] = shape[i];
        if (!sti_mul_i64(p.count, shape[i], &p.count))
            return sti_fail(STRATA_E_SHAPE, "parameter %s: its shape overflows", name);
    }
    int64_t end;
    if (!sti_add_i64(p.count, PAD - 1, &end) || !sti_add_i64(t->elements, end / PAD * PAD, &end))
        return sti_fail(STRATA_E_SHAPE, "parameter %s: the table overflows", name);
    STI_TRY(grow(t));
    p.name = sti_strdup(name);
    if (!p.name) return sti_fail(STRATA_E_MEMORY, "no memory for a parameter name");
    t->p[t->count++] = p;
    t->elements = end;
    return STRATA_OK;
}

strata_status sti_params_columns(sti_params *t, int64_t n, const double *init, const double *lr)
{
    sti_param *p = &t->p[t->count - 1];
    p->columns = sti_heap(2 * (size_t)n * sizeof *p->columns);
    if (!p->columns) return sti_fail(STRATA_E_MEMORY, "no memory for %lld columns", (long long)n);
    memcpy(p->columns, init, (size_t)n * sizeof *init);
    memcpy(p->columns + n, lr, (size_t)n * sizeof *lr);
    return STRATA_OK;
}

strata_status sti_params_append(sti_params *t, const char *prefix, const sti_params *src, int32_t *first, int64_t *base)
{
    *first = t->count;
    *base = t->elements;
    for (int32_t i = 0; i < src->count; i++) {
        const sti_param *p = &src->p[i];
        char name[512];
        int n = snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", p->name);
        if (n < 0 || (size_t)n >= sizeof name)
            return sti_fail(STRATA_E_INVALID, "parameter name %s… is too long", name);
        STI_TRY(grow(t));
        sti_param q = *p;
        q.name = sti_strdup(name);
        if (!q.name) return sti_fail(STRATA_E_MEMORY, "no memory for a parameter name");
        if (!sti_add_i64(*base, p->offset, &q.offset)) {
            sti_heap_free(q.name);
            return sti_fail(STRATA_E_SHAPE, "parameter %s: the table overflows", p->name);
        }
        if (p->columns) {
            const size_t bytes = 2 * (size_t)p->shape[p->ndim - 1] * sizeof *p->columns;
            q.columns = sti_heap(bytes);
            if (!q.columns) {
                sti_heap_free(q.name);
                return sti_fail(STRATA_E_MEMORY, "no memory for the columns of %s", p->name);
            }
            memcpy(q.columns, p->columns, bytes);
        }
        t->p[t->count++] = q;
    }
    if (!sti_add_i64(*base, src->elements, &t->elements))
        return sti_fail(STRATA_E_SHAPE, "%s: the table overflows", prefix);
    return STRATA_OK;
}

const sti_param *sti_params_find(const sti_params *t, const char *name)
{
    for (int32_t i = 0; i < t->count; i++)
        if (strcmp(t->p[i].name, name) == 0) return &t->p[i];
    return NULL;
}

void sti_params_init(const sti_params *t, void *params, int32_t dtype, uint64_t seed, int natural)
{
    memset(params, 0, (size_t)t->elements * strata_dtype_size(dtype));
    for (int32_t i = 0; i < t->count; i++) {
        const sti_param *p = &t->p[i];
        if (p->tied >= 0) continue;
        bool random = natural || p->init == STI_INIT_NORMAL;
        double std = natural ? p->scale : p->init_value;
        /* natural scale of a parameter that starts at a constant (a gain of 1) is spread around that constant */
        double mean = p->init == STI_INIT_CONST ? p->init_value : 0.0;
        for (int64_t j = 0; j < p->count; j++) {
            double c = p->columns ? p->columns[j % p->shape[p->ndim - 1]] : 1.0;
            double x = random ? mean + c * std * sti_normal(seed, (uint64_t)i, (uint64_t)j) : p->init_value;
            if (dtype == STRATA_F64)
                ((double *)params)[p->offset + j] = x;
            else
                ((float *)params)[p->offset + j] = (float)x;
        }
    }
}

strata_tensor sti_param_view(const sti_param *p, void *base, int32_t dtype)
{
    return strata_view((char *)base + (size_t)p->offset * strata_dtype_size(dtype), dtype, p->ndim, p->shape);
}

int64_t sti_params_numel(const sti_params *t)
{
    int64_t n = 0;
    for (int32_t i = 0; i < t->count; i++)
        if (t->p[i].tied < 0) n += t->p[i].count;
    return n;
}
