#include "operator/btt/btt_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { THREADS = 1024 };

/* One block, so that the sum over the core has one order; every element is then scaled by the same block. */
template <typename T> __global__ void cap_core(int64_t n, double tau, const T *w, sti_sum_t<T> *scale, T *capped)
{
    typedef sti_sum_t<T> S;
    __shared__ S shared[32];
    S sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const S x = sti_get(w[i]);
        sum += x * x;
    }
    const double square = (double)sti_block_sum(sum, shared) / (double)n + 1e-8, over = sqrt(square) / tau;
    const S f = (S)(over > 1 ? 1 / over : 1);
    if (threadIdx.x == 0) {
        scale[0] = f;
        scale[1] = (S)square;
    }
    for (int64_t i = threadIdx.x; i < n; i += THREADS) capped[i] = sti_put<T>(f * (S)sti_get(w[i]));
}

/* dw += f (g - w <g, w> / (n rho^2)) where capped, else g */
template <typename T>
__global__ void cap_core_grad(int64_t n, const T *w, const sti_sum_t<T> *scale, const sti_sum_t<T> *g, sti_sum_t<T> *dw)
{
    typedef sti_sum_t<T> S;
    __shared__ S shared[32];
    const S f = scale[0];
    S dot = 0;
    if (f < 1)
        for (int64_t i = threadIdx.x; i < n; i += THREADS) dot += g[i] * (S)sti_get(w[i]);
    const S along = sti_block_sum(dot, shared) / ((S)n * scale[1]);
    for (int64_t i = threadIdx.x; i < n; i += THREADS) dw[i] += f * (g[i] - along * (S)sti_get(w[i]));
}

template <typename T>
void cap(const strata_context *ctx, int64_t n, double tau, const void *w, void *scale, void *capped)
{
    cap_core<T><<<1, THREADS, 0, sti_stream(ctx)>>>(n, tau, (const T *)w, (sti_sum_t<T> *)scale, (T *)capped);
    sti_launched(ctx, "btt cap");
}

template <typename T>
void cap_grad(const strata_context *ctx, int64_t n, const void *w, const void *scale, const void *g, void *dw)
{
    cap_core_grad<T><<<1, THREADS, 0, sti_stream(ctx)>>>(n, (const T *)w, (const sti_sum_t<T> *)scale,
                                                         (const sti_sum_t<T> *)g, (sti_sum_t<T> *)dw);
    sti_launched(ctx, "btt cap gradient");
}
} // namespace

extern "C" void sti_btt_cap_cuda(const strata_context *ctx, int32_t type, int64_t n, double tau, const void *w,
                                 void *scale, void *capped)
{
    STI_CUDA_TYPES(type, cap, ctx, n, tau, w, scale, capped);
}

extern "C" void sti_btt_cap_grad_cuda(const strata_context *ctx, int32_t type, int64_t n, const void *w,
                                      const void *scale, const void *g, void *dw)
{
    STI_CUDA_TYPES(type, cap_grad, ctx, n, w, scale, g, dw);
}
