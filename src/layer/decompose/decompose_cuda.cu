/* Moving average and rest: a thread for a number, which sums its window out of the cache. Backward gathers too, so its
 * sums have one order. */
#include "layer/decompose/decompose_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { THREADS = 256, WAVES = 16 };

__device__ __forceinline__ int64_t at_least(int64_t x, int64_t low)
{
    return x < low ? low : x;
}

__device__ __forceinline__ int64_t at_most(int64_t x, int64_t high)
{
    return x > high ? high : x;
}

template <typename T>
__global__ void split_kernel(int64_t count, int64_t n, int64_t half, const T *x, T *trend, T *rest)
{
    typedef sti_sum_t<T> S;
    const S scale = S(1) / S(2 * half + 1);
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        const int64_t j = i % n;
        const T *row = x + (i - j);
        /* the first and the last number stand for those beyond the ends */
        S sum = S(at_least(half - j, 0)) * sti_get(row[0]) + S(at_least(j + half - (n - 1), 0)) * sti_get(row[n - 1]);
        for (int64_t k = at_least(j - half, 0), end = at_most(j + half, n - 1); k <= end; k++) sum += sti_get(row[k]);
        trend[i] = sti_put<T>(sum * scale);
        rest[i] = sti_put<T>(sti_get(row[j]) - sum * scale);
    }
}

template <typename T>
__global__ void join_kernel(int64_t count, int64_t n, int64_t half, const T *dtrend, const T *drest, int acc, T *dx)
{
    typedef sti_sum_t<T> S;
    const S scale = S(1) / S(2 * half + 1);
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        const int64_t j = i % n, row = i - j;
        S sum = 0;
        for (int64_t k = at_least(j - half, 0), end = at_most(j + half, n - 1); k <= end; k++) {
            int64_t times = 1; /* how often average k reads number j */
            if (j == 0) times += at_least(half - k, 0);
            if (j == n - 1) times += at_least(k + half - (n - 1), 0);
            sum += S(times) * ((dtrend ? sti_get(dtrend[row + k]) : S(0)) - (drest ? sti_get(drest[row + k]) : S(0)));
        }
        dx[i] = sti_put<T>((acc ? sti_get(dx[i]) : S(0)) + (drest ? sti_get(drest[i]) : S(0)) + sum * scale);
    }
}

template <typename T>
void split(const strata_context *ctx, int64_t rows, int64_t n, int64_t half, const void *x, void *trend, void *rest)
{
    split_kernel<T><<<sti_blocks(ctx, rows * n, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        rows * n, n, half, (const T *)x, (T *)trend, (T *)rest);
    sti_launched(ctx, "decompose");
}

template <typename T>
void join(const strata_context *ctx, int64_t rows, int64_t n, int64_t half, const void *dtrend, const void *drest,
          int acc, void *dx)
{
    join_kernel<T><<<sti_blocks(ctx, rows * n, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        rows * n, n, half, (const T *)dtrend, (const T *)drest, acc, (T *)dx);
    sti_launched(ctx, "decompose gradient");
}
} // namespace

extern "C" void sti_decompose_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n,
                                           int64_t half, const void *x, void *trend, void *rest)
{
    STI_CUDA_TYPES(dtype, split, ctx, rows, n, half, x, trend, rest);
}

extern "C" void sti_decompose_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n,
                                            int64_t half, const void *dtrend, const void *drest, int acc, void *dx)
{
    STI_CUDA_TYPES(dtype, join, ctx, rows, n, half, dtrend, drest, acc, dx);
}
