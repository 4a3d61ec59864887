/* The scale of a head's logits on a device. */
#include "backend/cuda/stream.cuh"
#include "layer/head/head_cuda.h"

namespace
{
template <typename T> struct scaled {
    sti_sum_t<T> scale;
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[2], sti_sum_t<T> (&out)[1]) const
    {
        out[0] = scale * in[0] + in[1];
    }
};

template <typename T> void run(const strata_context *ctx, int64_t n, double scale, const void *x, int acc, void *y)
{
    const scaled<T> f = { (sti_sum_t<T>)scale };
    sti_map<T, 2, 1>(ctx, "scale", { { (const T *)x, acc ? (const T *)y : nullptr }, { (T *)y }, n, false }, f);
}
} // namespace

extern "C" void sti_scale_cuda(const strata_context *ctx, int32_t dtype, int64_t n, double scale, const void *x,
                               int acc, void *y)
{
    STI_CUDA_TYPES(dtype, run, ctx, n, scale, x, acc, y);
}
