/* The residual sum on a device. */
#include "backend/cuda/stream.cuh"
#include "layer/sum/sum_cuda.h"

namespace
{
template <typename T> struct sum {
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[2], sti_sum_t<T> (&out)[1]) const
    {
        out[0] = in[0] + in[1];
    }
};

template <typename T> void run(const strata_context *ctx, int64_t n, const void *a, const void *b, void *y)
{
    sti_map<T, 2, 1>(ctx, "sum", { { (const T *)a, (const T *)b }, { (T *)y }, n, false }, sum<T>());
}
} // namespace

extern "C" void sti_sum_cuda(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b, void *y)
{
    STI_CUDA_TYPES(dtype, run, ctx, n, a, b, y);
}
