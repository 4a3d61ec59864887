#include "kernel/rotary/rotary.h"

#include <math.h>

#include "backend/cpu/threads.h"
#include "core/real.h"

struct sti_rotary {
    int32_t dtype, levels;
    int64_t width, time;
    double base;
    void *table;    /* (time, width): cos, sin of each pair */
    int64_t rank[]; /* levels */
};

#define REAL float
#define SFX _f32
#include "kernel/rotary/rotary.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "kernel/rotary/rotary.inc"

strata_status sti_rotary_create(int32_t dtype, int32_t levels, const int64_t *rank, double base, int64_t time,
                                sti_rotary **out)
{
    *out = NULL;
    int64_t width = 0, count;
    for (int32_t l = 0; l < levels; l++) {
        if (rank[l] < 2 || rank[l] % 2)
            return sti_fail(STRATA_E_SHAPE, "rotary: rank %lld of level %d is not even", (long long)rank[l], l + 1);
        width += rank[l];
    }
    if (!sti_mul_i64(time, width, &count) || count > INT64_MAX / 8)
        return sti_fail(STRATA_E_SHAPE, "rotary: %lld positions of width %lld", (long long)time, (long long)width);
    sti_rotary *r = sti_heap(sizeof *r + (size_t)levels * sizeof *rank);
    void *table = sti_heap((size_t)count * strata_dtype_size(dtype));
    if (!r || !table) {
        sti_heap_free(r);
        sti_heap_free(table);
        return sti_fail(STRATA_E_MEMORY, "rotary: no memory for %lld positions", (long long)time);
    }
    r->dtype = dtype;
    r->levels = levels;
    r->width = width;
    r->time = time;
    r->base = base;
    r->table = table;
    for (int32_t l = 0; l < levels; l++) r->rank[l] = rank[l];
    if (dtype == STRATA_F64)
        fill_f64(r);
    else
        fill_f32(r);
    *out = r;
    return STRATA_OK;
}

void sti_rotary_destroy(void *p)
{
    sti_rotary *r = p;
    if (!r) return;
    sti_heap_free(r->table);
    sti_heap_free(r);
}

strata_status sti_rotary_apply(const strata_context *ctx, const sti_rotary *r, int64_t batch, int64_t time,
                               int64_t heads, const int64_t *pos, bool back, bool add, const void *x, void *y)
{
    for (int64_t b = 0; b < batch; b++)
        if ((pos ? pos[b] : 0) + time > r->time)
            return sti_fail(STRATA_E_SPACE, "rotary: position %lld, but the plan has %lld",
                            (long long)((pos ? pos[b] : 0) + time - 1), (long long)r->time);
    const size_t e = strata_dtype_size(r->dtype), row = (size_t)(heads * r->width) * e, entry = (size_t)r->width * e;
    const int threads = sti_threads_for(ctx, batch * time * heads * r->width, 8192);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < batch * time; i++) {
        const int64_t p = (pos ? pos[i / time] : 0) + i % time;
        const void *table = (const char *)r->table + (size_t)p * entry, *xi = (const char *)x + (size_t)i * row;
        void *yi = (char *)y + (size_t)i * row;
        if (r->dtype == STRATA_F64)
            token_f64(r, heads, table, back, add, xi, yi);
        else
            token_f32(r, heads, table, back, add, xi, yi);
    }
    return STRATA_OK;
}

int64_t sti_rotary_width(const sti_rotary *r)
{
    return r->width;
}
