#include "kernel/rotary/rotary.h"

#include <math.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "kernel/rotary/rotary_cuda.h"

struct sti_rotary {
    strata_context *ctx; /* shared */
    int32_t dtype, levels;
    int64_t width, time;
    double base;
    void *table;     /* (time, width): cos, sin of each pair, in the type of sums */
    int32_t *member; /* on a device (width/2, 2): the elements of a head that each pair turns */
    int64_t run;     /* a power of two that divides every half-slice */
    int64_t rank[];  /* levels */
};

#define REAL float
#define SFX _f32
#include "kernel/rotary/rotary.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "kernel/rotary/rotary.inc"

/* Fill arrays of the host and copy them to where the context computes. */
static strata_status make_tables(sti_rotary *r, void *table, int32_t *member)
{
    const size_t bytes = (size_t)(r->time * r->width) * strata_dtype_size(sti_sum_type(r->dtype));
    int64_t pair = 0;
    if (r->dtype == STRATA_F64)
        fill_f64(r, table);
    else
        fill_f32(r, table);
    for (int32_t l = 0; l < r->levels; l++)
        for (int64_t k = 0, half = r->rank[l] / 2, first = 2 * pair; k < half; k++, pair++) {
            member[2 * pair] = (int32_t)(first + k);
            member[2 * pair + 1] = (int32_t)(first + k + half);
        }
    void *p;
    STI_TRY(sti_array_calloc(r->ctx, 1, bytes, &r->table));
    STI_TRY(sti_array_calloc(r->ctx, r->width, sizeof *member, &p));
    r->member = p;
    STI_TRY(sti_to_device(r->ctx, r->table, table, bytes));
    return sti_to_device(r->ctx, r->member, member, (size_t)r->width * sizeof *member);
}

strata_status sti_rotary_create(const strata_context *ctx, int32_t dtype, int32_t levels, const int64_t *rank,
                                double base, int64_t time, sti_rotary **out)
{
    *out = NULL;
    int64_t width = 0, count, run = 1 << 10;
    for (int32_t l = 0; l < levels; l++) {
        if (rank[l] < 2 || rank[l] % 2)
            return sti_fail(STRATA_E_SHAPE, "rotary: rank %lld of level %d is not even", (long long)rank[l], l + 1);
        width += rank[l];
        while (rank[l] / 2 % run) run /= 2;
    }
    if (!sti_mul_i64(time, width, &count) || count > INT64_MAX / 8 || width > INT32_MAX)
        return sti_fail(STRATA_E_SHAPE, "rotary: %lld positions of width %lld", (long long)time, (long long)width);
    sti_rotary *r = sti_heap(sizeof *r + (size_t)levels * sizeof *rank);
    void *table = sti_heap((size_t)count * strata_dtype_size(sti_sum_type(dtype)));
    int32_t *member = sti_heap((size_t)width * sizeof *member);
    strata_status s = STRATA_OK;
    if (!r || !table || !member) {
        s = sti_fail(STRATA_E_MEMORY, "rotary: no memory for %lld positions", (long long)time);
    } else {
        r->ctx = sti_context_ref(ctx);
        r->dtype = dtype;
        r->levels = levels;
        r->width = width;
        r->time = time;
        r->base = base;
        r->run = run;
        for (int32_t l = 0; l < levels; l++) r->rank[l] = rank[l];
        s = make_tables(r, table, member);
    }
    sti_heap_free(table);
    sti_heap_free(member);
    if (s == STRATA_OK)
        *out = r;
    else
        sti_rotary_destroy(r);
    return s;
}

void sti_rotary_destroy(void *p)
{
    sti_rotary *r = p;
    if (!r) return;
    if (r->ctx) {
        sti_array_free(r->ctx, r->table);
        sti_array_free(r->ctx, r->member);
        strata_context_destroy(r->ctx);
    }
    sti_heap_free(r);
}

strata_status sti_rotary_apply(const strata_context *ctx, const sti_rotary *r, int64_t batch, int64_t time,
                               int64_t heads, const int64_t *pos, bool back, bool add, const void *x, void *y)
{
    for (int64_t b = 0; b < batch; b++)
        if ((pos ? pos[b] : 0) + time > r->time)
            return sti_fail(STRATA_E_SPACE, "rotary: position %lld, but the plan has %lld",
                            (long long)((pos ? pos[b] : 0) + time - 1), (long long)r->time);
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        const sti_rotary_tables t = { r->table, r->member, r->width, r->run };
        sti_rotary_apply_cuda(ctx, r->dtype, &t, batch, time, heads, pos, back, add, x, y);
        return STRATA_OK;
    }
#endif
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
