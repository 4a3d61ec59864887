/* The last numbers of a row repeated: a thread for a number; backward gathers, so its sums have one order. */
#include "layer/lag/lag_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { THREADS = 256, WAVES = 16 };

template <typename T>
__global__ void repeat_kernel(int64_t count, int64_t n, int64_t period, int64_t m, const T *in, T *out)
{
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS)
        out[i] = in[i / m * n + n - period + i % m % period];
}

template <typename T>
__global__ void gather_kernel(int64_t count, int64_t n, int64_t period, int64_t m, const T *dout, int acc, T *din)
{
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        const int64_t from = i % n - (n - period);
        const T *d = dout + i / n * m;
        sti_sum_t<T> sum = acc ? sti_get(din[i]) : sti_sum_t<T>(0);
        if (from >= 0)
            for (int64_t h = from; h < m; h += period) sum += sti_get(d[h]);
        din[i] = sti_put<T>(sum);
    }
}

template <typename T>
void repeat(const strata_context *ctx, int64_t rows, int64_t n, int64_t period, int64_t m, const void *in, void *out)
{
    repeat_kernel<T><<<sti_blocks(ctx, rows * m, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        rows * m, n, period, m, (const T *)in, (T *)out);
    sti_launched(ctx, "lag");
}

template <typename T>
void gather(const strata_context *ctx, int64_t rows, int64_t n, int64_t period, int64_t m, const void *dout, int acc,
            void *din)
{
    gather_kernel<T><<<sti_blocks(ctx, rows * n, THREADS, WAVES), THREADS, 0, sti_stream(ctx)>>>(
        rows * n, n, period, m, (const T *)dout, acc, (T *)din);
    sti_launched(ctx, "lag gradient");
}
} // namespace

extern "C" void sti_lag_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n, int64_t period,
                                     int64_t m, const void *in, void *out)
{
    STI_CUDA_TYPES(dtype, repeat, ctx, rows, n, period, m, in, out);
}

extern "C" void sti_lag_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n, int64_t period,
                                      int64_t m, const void *dout, int acc, void *din)
{
    STI_CUDA_TYPES(dtype, gather, ctx, rows, n, period, m, dout, acc, din);
}
