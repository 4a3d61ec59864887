/* Strided copies and the sum over heads, a thread for an element. */
#include "backend/cuda/cuda.cuh"
#include "mixer/softmax/softmax_cuda.h"

namespace
{

enum { THREADS = 256, WAVES = 16 };

template <typename T>
__global__ void gather_kernel(int64_t count, int64_t m, int64_t l, const T *table, int64_t si, int64_t sj, int64_t sk,
                              T *dense)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS)
        dense[i] = table[i / l / m * si + i / l % m * sj + i % l * sk];
}

template <typename T>
__global__ void scatter_kernel(int64_t count, int64_t m, int64_t l, const T *dense, T *table, int64_t si, int64_t sj,
                               int64_t sk, int add)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        T *y = table + i / l / m * si + i / l % m * sj + i % l * sk;
        *y = add ? sti_put<T>(sti_get(*y) + sti_get(dense[i])) : dense[i];
    }
}

template <typename T>
__global__ void sum_heads_kernel(int64_t count, int64_t heads, int64_t dim, const T *from, T *to, int acc)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        const T *x = from + i / dim * heads * dim + i % dim;
        sti_sum_t<T> sum = acc ? sti_get(to[i]) : sti_sum_t<T>(0);
        for (int64_t h = 0; h < heads; h++) sum += sti_get(x[h * dim]);
        to[i] = sti_put<T>(sum);
    }
}

template <typename T>
void gather(const strata_context *ctx, int64_t n, int64_t m, int64_t l, const void *table, int64_t si, int64_t sj,
            int64_t sk, void *dense)
{
    gather_kernel<T><<<sti_blocks(ctx, n * m * l, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        n * m * l, m, l, (const T *)table, si, sj, sk, (T *)dense);
    sti_launched(ctx, "softmax gather");
}

template <typename T>
void scatter(const strata_context *ctx, int64_t n, int64_t m, int64_t l, const void *dense, void *table, int64_t si,
             int64_t sj, int64_t sk, int add)
{
    scatter_kernel<T><<<sti_blocks(ctx, n * m * l, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        n * m * l, m, l, (const T *)dense, (T *)table, si, sj, sk, add);
    sti_launched(ctx, "softmax scatter");
}

template <typename T>
void sum_heads(const strata_context *ctx, int64_t rows, int64_t heads, int64_t dim, const void *from, void *to, int acc)
{
    sum_heads_kernel<T><<<sti_blocks(ctx, rows * dim, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        rows * dim, heads, dim, (const T *)from, (T *)to, acc);
    sti_launched(ctx, "softmax sum of heads");
}

} // namespace

extern "C" void sti_softmax_gather_cuda(const strata_context *ctx, int32_t dtype, int64_t n, int64_t m, int64_t l,
                                        const void *table, int64_t si, int64_t sj, int64_t sk, void *dense)
{
    STI_CUDA_TYPES(dtype, gather, ctx, n, m, l, table, si, sj, sk, dense);
}

extern "C" void sti_softmax_scatter_cuda(const strata_context *ctx, int32_t dtype, int64_t n, int64_t m, int64_t l,
                                         const void *dense, void *table, int64_t si, int64_t sj, int64_t sk, int add)
{
    STI_CUDA_TYPES(dtype, scatter, ctx, n, m, l, dense, table, si, sj, sk, add);
}

extern "C" void sti_softmax_sum_heads_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t heads,
                                           int64_t dim, const void *from, void *to, int acc)
{
    STI_CUDA_TYPES(dtype, sum_heads, ctx, rows, heads, dim, from, to, acc);
}
