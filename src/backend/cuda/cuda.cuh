#ifndef STI_CUDA_CUH
#define STI_CUDA_CUH
/* What CUDA sources share: the device state of a context, error recording, launches, element types. C headers that they
 * include from the rest of src/ hold plain structs only. */

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <mutex>
#include <stdint.h>

#include <strata/context.h>
#include <strata/tensor.h>

#include "core/base.h"

/* One stream per context: every launch of a context is ordered behind the ones before it. */
struct sti_cuda {
    cudaStream_t stream;
    int device, major, sms;
    size_t smem_optin; /* bytes of shared memory a block may ask for */
    char name[96];
    cudaError_t failed;         /* first failure since the last wait */
    const char *where;          /* what failed */
    struct sti_cuda_slot *slot; /* pinned memory that uploads pass through */
    int next_slot;
    std::mutex upload; /* guards the two above */
    void *gemm;        /* kernel/gemm's handle and plans; freed by gemm_free */
    void (*gemm_free)(void *);
};

extern "C" struct sti_cuda *sti_cuda_of(const strata_context *ctx);
/* Remember a failure; the next wait reports the first one. */
extern "C" void sti_cuda_note(struct sti_cuda *c, cudaError_t e, const char *what);

static inline cudaStream_t sti_stream(const strata_context *ctx)
{
    return sti_cuda_of(ctx)->stream;
}

/* After every <<<>>>: a refused launch is reported by the next wait, under the kernel's name. */
static inline void sti_launched(const strata_context *ctx, const char *what)
{
    sti_cuda_note(sti_cuda_of(ctx), cudaPeekAtLastError(), what);
}

/* Enough blocks for n items of `per` each, at most `waves` blocks for every SM (grid-stride loops do the rest). */
static inline unsigned sti_blocks(const strata_context *ctx, int64_t n, int64_t per, int waves)
{
    const int64_t want = (n + per - 1) / per, most = (int64_t)sti_cuda_of(ctx)->sms * waves;
    return (unsigned)(want < 1 ? 1 : want < most ? want : most);
}

/* ---- element types: f32, f64, bf16; sums and statistics of bf16 are f32 ------------------------------------------ */

typedef __nv_bfloat16 sti_bf16;
template <typename T> struct sti_sum {
    typedef T type;
};
template <> struct sti_sum<sti_bf16> {
    typedef float type;
};
template <typename T> using sti_sum_t = typename sti_sum<T>::type;

__device__ __forceinline__ float sti_get(float x)
{
    return x;
}
__device__ __forceinline__ double sti_get(double x)
{
    return x;
}
__device__ __forceinline__ float sti_get(sti_bf16 x)
{
    return __bfloat162float(x);
}
template <typename T> __device__ __forceinline__ T sti_put(sti_sum_t<T> x)
{
    return x;
}
template <> __device__ __forceinline__ sti_bf16 sti_put<sti_bf16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* `v` elements moved at once: 16 bytes, aligned. */
template <typename T, int v> struct alignas(sizeof(T) * v) sti_vec {
    T x[v];
};

/* Call body<T>(...) for the element type. */
#define STI_CUDA_TYPES(dtype, body, ...)                                                                               \
    do {                                                                                                               \
        if ((dtype) == STRATA_F32)                                                                                     \
            body<float>(__VA_ARGS__);                                                                                  \
        else if ((dtype) == STRATA_F64)                                                                                \
            body<double>(__VA_ARGS__);                                                                                 \
        else                                                                                                           \
            body<sti_bf16>(__VA_ARGS__);                                                                               \
    } while (0)

/* ---- reductions: every order is fixed by the launch shape, so results repeat bit for bit ---------------------------
 */

template <typename T> __device__ __forceinline__ T sti_warp_sum(T x)
{
    for (int d = 16; d; d >>= 1) x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}
template <typename T> __device__ __forceinline__ T sti_warp_max(T x)
{
    for (int d = 16; d; d >>= 1) {
        const T y = __shfl_xor_sync(0xffffffffu, x, d);
        x = x > y ? x : y;
    }
    return x;
}
/* Sum over the block, returned to every thread; `shared` holds 32 numbers and may be used again after the call. */
template <typename T> __device__ __forceinline__ T sti_block_sum(T x, T *shared)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    x = sti_warp_sum(x);
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    x = lane < warps ? shared[lane] : T(0);
    return sti_warp_sum(x);
}
template <typename T> __device__ __forceinline__ T sti_block_max(T x, T *shared)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    x = sti_warp_max(x);
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    x = shared[lane < warps ? lane : 0];
    return sti_warp_max(x);
}

#endif
