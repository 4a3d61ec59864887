/* Squared error on a device. */
#include "kernel/squarederror/squarederror_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { THREADS = 256 };

/* A warp a row. */
template <typename T>
__global__ void rows_of(int64_t rows, int64_t width, const T *y, const sti_sum_t<T> *target, sti_sum_t<T> *out)
{
    const int lane = threadIdx.x & 31;
    const int64_t warps = (int64_t)gridDim.x * (THREADS / 32);
    for (int64_t i = blockIdx.x * (int64_t)(THREADS / 32) + threadIdx.x / 32; i < rows; i += warps) {
        double sum = 0, scored = 0;
        for (int64_t j = lane; j < width; j += 32) {
            const sti_sum_t<T> t = target[i * width + j];
            if (isnan(t)) continue;
            const double d = (double)sti_get(y[i * width + j]) - (double)t;
            sum += d * d;
            scored += 1;
        }
        sum = sti_warp_sum(sum);
        scored = sti_warp_sum(scored);
        if (lane) continue;
        out[2 * i] = (sti_sum_t<T>)sum;
        out[2 * i + 1] = (sti_sum_t<T>)scored;
    }
}

template <typename T> __global__ void gradient(int64_t n, const T *y, const sti_sum_t<T> *target, T *dy, int acc)
{
    typedef sti_sum_t<T> S;
    __shared__ double shared[32];
    double scored = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) scored += !isnan(target[i]);
    scored = sti_block_sum(scored, shared);
    const double scale = scored > 0 ? 2 / scored : 0;
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const S t = target[i], g = isnan(t) ? S(0) : (S)(scale * ((double)sti_get(y[i]) - (double)t));
        dy[i] = sti_put<T>(acc ? sti_get(dy[i]) + g : g);
    }
}

template <typename T>
void forward(const strata_context *ctx, int64_t rows, int64_t width, const void *y, const void *target, void *out)
{
    rows_of<T><<<sti_blocks(ctx, rows, THREADS / 32, 16), THREADS, 0, sti_stream(ctx)>>>(
        rows, width, (const T *)y, (const sti_sum_t<T> *)target, (sti_sum_t<T> *)out);
    sti_launched(ctx, "squared error");
}

template <typename T>
void backward(const strata_context *ctx, int64_t n, const void *y, const void *target, void *dy, int acc)
{
    gradient<T><<<sti_blocks(ctx, n, THREADS * 4, 2), THREADS, 0, sti_stream(ctx)>>>(
        n, (const T *)y, (const sti_sum_t<T> *)target, (T *)dy, acc);
    sti_launched(ctx, "squared error gradient");
}
} // namespace

extern "C" void sti_squarederror_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                              const void *y, const void *target, void *out)
{
    STI_CUDA_TYPES(dtype, forward, ctx, rows, width, y, target, out);
}

extern "C" void sti_squarederror_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                               const void *y, const void *target, void *dy, int acc)
{
    STI_CUDA_TYPES(dtype, backward, ctx, rows * width, y, target, dy, acc);
}
