#include "kernel/norm/norm.h"

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "kernel/norm/norm_cuda.h"
#include "kernel/norm/norm_isa.h"

#define REAL float
#define SFX _f32_c
#include "kernel/norm/norm.inc"

enum { CHUNKS = 64, CHUNK_ROWS = 16 }; /* most chunks, and fewest rows of one */

static const sti_norm_loops *loops_of(const strata_context *ctx, int32_t dtype)
{
    if (dtype == STRATA_F64) return &sti_norm_loops_f64_ref;
    if (ctx->isa == STI_ISA_REF) return &sti_norm_loops_f32_ref;
#if STRATA_X86
    if (ctx->isa >= STI_ISA_AVX512) return &sti_norm_loops_f32_avx512;
    if (ctx->isa >= STI_ISA_AVX2) return &sti_norm_loops_f32_avx2;
#endif
    return &sti_norm_loops_f32_c;
}

/* Rows of one chunk: a function of the number of rows alone. */
static int64_t chunk_rows(int64_t rows)
{
    return STI_MAX(CHUNK_ROWS, sti_ceil_div(rows, CHUNKS));
}

#if STRATA_HAVE_CUDA
static sti_norm_shape shape_of(const sti_norm *n, int64_t rows)
{
    return (sti_norm_shape){ rows, n->width, n->stride ? n->stride : n->width, n->eps, n->center };
}
#endif

size_t sti_norm_work(const strata_context *ctx, int64_t width)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) return sti_norm_work_cuda(width);
#else
    (void)ctx;
#endif
    return (size_t)CHUNKS * 2 * (size_t)width * sizeof(double);
}

void sti_norm_forward(const strata_context *ctx, int32_t dtype, const sti_norm *n, int64_t rows, const void *x,
                      const void *gain, const void *bias, void *y, void *stat)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        const sti_norm_shape shape = shape_of(n, rows);
        sti_norm_forward_cuda(ctx, dtype, &shape, x, gain, n->bias ? bias : NULL, y, stat);
        return;
    }
#endif
    const sti_norm_loops *l = loops_of(ctx, dtype);
    const int64_t span = chunk_rows(rows), chunks = sti_ceil_div(rows, span);
    const size_t e = strata_dtype_size(dtype), row = (size_t)(n->stride ? n->stride : n->width) * e;
#pragma omp parallel for num_threads(sti_threads_for(ctx, rows * n->width, 8192))
    for (int64_t c = 0; c < chunks; c++) {
        const size_t first = (size_t)(c * span);
        l->forward(n, STI_MIN(span, rows - c * span), (const char *)x + first * row, gain, bias,
                   (char *)y + first * row, stat ? (char *)stat + first * 2 * e : NULL);
    }
}

void sti_norm_sum_forward(const strata_context *ctx, int32_t dtype, const sti_norm *n, int64_t rows, const void *a,
                          const void *b, void *x, const void *gain, const void *bias, void *y, void *stat)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        const sti_norm_shape shape = shape_of(n, rows);
        sti_norm_sum_forward_cuda(ctx, dtype, &shape, a, b, x, gain, n->bias ? bias : NULL, y, stat);
        return;
    }
#endif
    for (int64_t i = 0; i < rows * n->width; i++)
        if (dtype == STRATA_F64)
            ((double *)x)[i] = ((const double *)a)[i] + ((const double *)b)[i];
        else
            ((float *)x)[i] = ((const float *)a)[i] + ((const float *)b)[i];
    sti_norm_forward(ctx, dtype, n, rows, x, gain, bias, y, stat);
}

static void add(int32_t dtype, void *p, int64_t i, double v)
{
    if (dtype == STRATA_F64)
        ((double *)p)[i] += v;
    else
        ((float *)p)[i] += (float)v;
}

void sti_norm_backward(const strata_context *ctx, int32_t dtype, const sti_norm *n, int64_t rows, const void *x,
                       const void *gain, const void *stat, const void *dy, void *dx, int acc, void *dgain, void *dbias,
                       void *work)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        const sti_norm_shape shape = shape_of(n, rows);
        sti_norm_backward_cuda(ctx, dtype, &shape, x, gain, stat, dy, dx, acc, dgain, n->bias ? dbias : NULL, work);
        return;
    }
#endif
    const sti_norm_loops *l = loops_of(ctx, dtype);
    const int64_t w = n->width, span = chunk_rows(rows), chunks = sti_ceil_div(rows, span);
    const size_t e = strata_dtype_size(dtype), row = (size_t)(n->stride ? n->stride : w) * e;
    double *sums = dgain || dbias ? work : NULL;
    const int threads = sti_threads_for(ctx, rows * w, 8192);
#pragma omp parallel for num_threads(threads)
    for (int64_t c = 0; c < chunks; c++) {
        const size_t first = (size_t)(c * span);
        l->backward(n, STI_MIN(span, rows - c * span), (const char *)x + first * row, gain,
                    (const char *)stat + first * 2 * e, (const char *)dy + first * row,
                    dx ? (char *)dx + first * row : NULL, acc, sums ? sums + c * 2 * w : NULL);
    }
    if (!sums) return;
    for (int64_t j = 0; j < w; j++) {
        double g = 0, b = 0;
        for (int64_t c = 0; c < chunks; c++) {
            g += sums[(2 * c) * w + j];
            b += sums[(2 * c + 1) * w + j];
        }
        if (dgain) add(dtype, dgain, j, g);
        if (dbias) add(dtype, dbias, j, b);
    }
}
