/* Squared error on a device. */
#include "kernel/squarederror/squarederror_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { THREADS = 256 };

/* A warp a row. */
template <typename T> __global__ void rows_of(int64_t rows, int64_t width, const T *y, const T *target, T *out)
{
    const int lane = threadIdx.x & 31;
    const int64_t warps = (int64_t)gridDim.x * (THREADS / 32);
    for (int64_t i = blockIdx.x * (int64_t)(THREADS / 32) + threadIdx.x / 32; i < rows; i += warps) {
        double sum = 0, scored = 0;
        for (int64_t j = lane; j < width; j += 32) {
            const T t = target[i * width + j];
            if (isnan(t)) continue;
            const double d = (double)y[i * width + j] - (double)t;
            sum += d * d;
            scored += 1;
        }
        sum = sti_warp_sum(sum);
        scored = sti_warp_sum(scored);
        if (lane) continue;
        out[2 * i] = (T)sum;
        out[2 * i + 1] = (T)scored;
    }
}

template <typename T> __global__ void gradient(int64_t n, const T *y, const T *target, T *dy, int acc)
{
    __shared__ double shared[32];
    double scored = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) scored += !isnan(target[i]);
    scored = sti_block_sum(scored, shared);
    const double scale = scored > 0 ? 2 / scored : 0;
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const T t = target[i];
        const T g = isnan(t) ? T(0) : (T)(scale * ((double)y[i] - (double)t));
        dy[i] = acc ? dy[i] + g : g;
    }
}
} // namespace

extern "C" void sti_squarederror_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                              const void *y, const void *target, void *out)
{
    const unsigned blocks = sti_blocks(ctx, rows, THREADS / 32, 16);
    if (dtype == STRATA_F64)
        rows_of<<<blocks, THREADS, 0, sti_stream(ctx)>>>(rows, width, (const double *)y, (const double *)target,
                                                         (double *)out);
    else
        rows_of<<<blocks, THREADS, 0, sti_stream(ctx)>>>(rows, width, (const float *)y, (const float *)target,
                                                         (float *)out);
    sti_launched(ctx, "squared error");
}

extern "C" void sti_squarederror_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                               const void *y, const void *target, void *dy, int acc)
{
    const int64_t n = rows * width;
    const unsigned blocks = sti_blocks(ctx, n, THREADS * 4, 2);
    if (dtype == STRATA_F64)
        gradient<<<blocks, THREADS, 0, sti_stream(ctx)>>>(n, (const double *)y, (const double *)target, (double *)dy,
                                                          acc);
    else
        gradient<<<blocks, THREADS, 0, sti_stream(ctx)>>>(n, (const float *)y, (const float *)target, (float *)dy, acc);
    sti_launched(ctx, "squared error gradient");
}
