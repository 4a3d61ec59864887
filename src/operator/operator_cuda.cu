#include "operator/operator_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
template <typename T>
__global__ void scale(int64_t rows, int64_t n, sti_sum_t<T> alpha, const T *d, const T *x, int64_t ldx,
                      sti_sum_t<T> beta, T *y, int64_t ldy)
{
    const int64_t total = rows * n, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t at = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; at < total; at += step) {
        const int64_t r = at / n, i = at % n;
        sti_sum_t<T> z = alpha * sti_get(x[r * ldx + i]);
        if (d) z *= sti_get(d[i]);
        if (beta != 0) z += beta * sti_get(y[r * ldy + i]);
        y[r * ldy + i] = sti_put<T>(z);
    }
}

template <typename T>
void scale_rows(const strata_context *ctx, int64_t rows, int64_t n, double alpha, const void *d, const void *x,
                int64_t ldx, double beta, void *y, int64_t ldy)
{
    scale<T><<<sti_blocks(ctx, rows * n, 1024, 16), 256, 0, sti_stream(ctx)>>>(
        rows, n, (sti_sum_t<T>)alpha, (const T *)d, (const T *)x, ldx, (sti_sum_t<T>)beta, (T *)y, ldy);
    sti_launched(ctx, "scale rows");
}

/* A block sums 32 columns; its 16 warps take rows in turn and are added in their order. */
enum { WARPS = 16 };

template <typename T>
__global__ void columns(int64_t rows, int64_t n, const T *a, int64_t lda, const T *b, int64_t ldb, sti_sum_t<T> *dd)
{
    typedef sti_sum_t<T> S;
    __shared__ S part[WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t i = blockIdx.x * (int64_t)32 + lane;
    S sum = 0;
    if (i < n)
        for (int64_t r = warp; r < rows; r += WARPS) sum += (S)sti_get(a[r * lda + i]) * (S)sti_get(b[r * ldb + i]);
    part[warp][lane] = sum;
    __syncthreads();
    if (warp || i >= n) return;
    for (int w = 1; w < WARPS; w++) sum += part[w][lane];
    dd[i] += sum;
}

template <typename T>
void sum_columns(const strata_context *ctx, int64_t rows, int64_t n, const void *a, int64_t lda, const void *b,
                 int64_t ldb, void *dd)
{
    columns<T><<<(unsigned)((n + 31) / 32), 32 * WARPS, 0, sti_stream(ctx)>>>(rows, n, (const T *)a, lda, (const T *)b,
                                                                              ldb, (sti_sum_t<T> *)dd);
    sti_launched(ctx, "sum of columns");
}

template <typename T> __global__ void ones(int64_t n, int64_t step, T *a)
{
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < n) a[i * step] = sti_put<T>(sti_sum_t<T>(1));
}

template <typename T> void set_ones(const strata_context *ctx, int64_t n, int64_t step, void *a)
{
    ones<T><<<(unsigned)((n + 127) / 128), 128, 0, sti_stream(ctx)>>>(n, step, (T *)a);
    sti_launched(ctx, "ones");
}
} // namespace

extern "C" void sti_op_scale_cuda(const strata_context *ctx, int32_t type, int64_t rows, int64_t n, double alpha,
                                  const void *d, const void *x, int64_t ldx, double beta, void *y, int64_t ldy)
{
    STI_CUDA_TYPES(type, scale_rows, ctx, rows, n, alpha, d, x, ldx, beta, y, ldy);
}

extern "C" void sti_op_columns_cuda(const strata_context *ctx, int32_t type, int64_t rows, int64_t n, const void *a,
                                    int64_t lda, const void *b, int64_t ldb, void *dd)
{
    STI_CUDA_TYPES(type, sum_columns, ctx, rows, n, a, lda, b, ldb, dd);
}

extern "C" void sti_op_ones_cuda(const strata_context *ctx, int32_t type, int64_t n, int64_t step, void *a)
{
    STI_CUDA_TYPES(type, set_ones, ctx, n, step, a);
}
