/* Cross-entropy on a device: forward reads the logits once (maximum and sum of exponentials together), backward reads
 * them once more and writes their gradients, in place where the planner gives both the same memory. A row belongs to a
 * block, a short one to a warp or 8 threads. Targets cannot be checked here: whoever uploads them has (trainer,
 * evaluation).
 */
#include <float.h>

#include "backend/cuda/stream.cuh"
#include "kernel/crossentropy/crossentropy_cuda.h"

namespace
{
constexpr int BLOCK = 256; /* threads */
constexpr int AHEAD = 4;   /* 16-byte loads in flight for each thread */

template <typename T> __device__ __forceinline__ float exp_of(float x)
{
    return sizeof(T) == 2 ? __expf(x) : expf(x);
}
template <typename T> __device__ __forceinline__ double exp_of(double x)
{
    return exp(x);
}
__device__ __forceinline__ float lowest(float)
{
    return -FLT_MAX;
}
__device__ __forceinline__ double lowest(double)
{
    return -DBL_MAX;
}

/* A row as elements before the first boundary of `edge` bytes, pieces of 16 bytes, and elements after the last. Long
 * rows take 128, so that warps write whole lines also where the vocabulary is odd. */
template <typename T> struct split {
    int64_t head, pieces, tail; /* tail: index of its first element */
    __device__ split(const T *p, int64_t n, int edge)
    {
        constexpr int V = sti_wide<T>::n;
        const int64_t before = (edge - (int)((uintptr_t)p % edge)) % edge / (int)sizeof(T);
        head = before < n ? before : n;
        pieces = (n - head) / V;
        tail = head + pieces * V;
    }
};

/* Sum of exp(x - m) over what one thread has seen, m its maximum; -inf adds 0, NaN stays. */
template <typename T> struct running {
    typedef sti_sum_t<T> S;
    S m, s;
    template <int n> __device__ __forceinline__ void take(const S (&x)[n])
    {
        S top = x[0];
#pragma unroll
        for (int e = 1; e < n; e++) top = x[e] > top ? x[e] : top;
        if (top > m) {
            s *= exp_of<T>(m - top);
            m = top;
        }
#pragma unroll
        for (int e = 0; e < n; e++) s += exp_of<T>(x[e] - m);
    }
};

/* Reductions over the G threads of a row, part of a warp or the whole block. */
template <int G, typename S> __device__ __forceinline__ S row_sum(S x, S *shared)
{
    if constexpr (G > 32) {
        return sti_block_sum(x, shared);
    } else {
#pragma unroll
        for (int d = G / 2; d; d >>= 1) x += __shfl_xor_sync(0xffffffffu, x, d);
        return x;
    }
}
template <int G, typename S> __device__ __forceinline__ S row_max(S x, S *shared)
{
    if constexpr (G > 32) {
        return sti_block_max(x, shared);
    } else {
#pragma unroll
        for (int d = G / 2; d; d >>= 1) {
            const S y = __shfl_xor_sync(0xffffffffu, x, d);
            x = x > y ? x : y;
        }
        return x;
    }
}

template <typename T, int G>
__global__ void __launch_bounds__(BLOCK)
    forward(int64_t rows, int64_t vocab, const T *logits, const int32_t *target, sti_sum_t<T> *lse, sti_sum_t<T> *out)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n, each = BLOCK / G, edge = G == BLOCK ? 128 : 16;
    __shared__ S shared[32];
    const int lane = threadIdx.x % G;
    const int64_t place = (int64_t)blockIdx.x * each + threadIdx.x / G;
    const int64_t row = place < rows ? place : rows - 1; /* the shuffles below need every thread */
    const T *x = logits + row * vocab;
    const split<T> part(x, vocab, edge);
    running<T> r = { lowest(S()), 0 };
    for (int64_t first = lane; first < part.pieces; first += AHEAD * G) {
        uint4 raw[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (first + u * G < part.pieces) raw[u] = *(const uint4 *)(x + part.head + (first + u * G) * V);
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (first + u * G >= part.pieces) break;
            S v[V];
            sti_unpack<T>(raw[u], v);
            r.take(v);
        }
    }
    for (int64_t j = lane; j < part.head + vocab - part.tail; j += G) {
        const S v[1] = { (S)sti_get(x[j < part.head ? j : part.tail + j - part.head]) };
        r.take(v);
    }
    const S m = row_max<G>(r.m, shared), s = row_sum<G>(r.s * exp_of<T>(r.m - m), shared);
    if (lane || place >= rows) return;
    const S z = m + log(s);
    const int64_t t = target[row];
    if (lse) lse[row] = z;
    out[2 * row] = t < 0 ? S(0) : z - (S)sti_get(x[t]);
    out[2 * row + 1] = t < 0 ? S(0) : S(1);
}

/* lse[rows] = 1 / number of counted rows, which backward scales by. One block. */
template <typename S> __global__ void __launch_bounds__(1024) count(int64_t rows, const int32_t *target, S *lse)
{
    __shared__ int shared[32];
    int n = 0;
#pragma unroll 16
    for (int64_t i = threadIdx.x; i < rows; i += 1024) n += target[i] >= 0;
    n = sti_block_sum(n, shared);
    if (threadIdx.x == 0) lse[rows] = n ? S(1) / S(n) : S(0);
}

template <typename T, int G>
__global__ void __launch_bounds__(BLOCK) backward(int64_t rows, int64_t vocab, const T *logits, const int32_t *target,
                                                  const sti_sum_t<T> *lse, T *dlogits, int acc)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n, each = BLOCK / G, edge = G == BLOCK ? 128 : 16;
    const int lane = threadIdx.x % G;
    const int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / G;
    if (row >= rows) return;
    const T *x = logits + row * vocab;
    T *d = dlogits + row * vocab;
    const int64_t t = target[row];
    const S z = lse[row], scale = t < 0 ? S(0) : lse[rows];
    split<T> part(x, vocab, edge);
    if ((uintptr_t)x % 16 != (uintptr_t)d % 16) part.head = part.tail = part.pieces = 0;
    if (t < 0 && acc) return;
    for (int64_t first = lane; first < part.pieces; first += AHEAD * G) {
        uint4 raw[AHEAD], old[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (first + u * G < part.pieces) {
                raw[u] = *(const uint4 *)(x + part.head + (first + u * G) * V);
                old[u] = acc ? *(const uint4 *)(d + part.head + (first + u * G) * V) : make_uint4(0, 0, 0, 0);
            }
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            const int64_t i = part.head + (first + u * G) * V;
            if (first + u * G >= part.pieces) break;
            S v[V], o[V];
            sti_unpack<T>(raw[u], v);
            sti_unpack<T>(old[u], o);
            const int64_t hit = t - i; /* which of these elements is the target */
#pragma unroll
            for (int e = 0; e < V; e++) o[e] += t < 0 ? S(0) : scale * (exp_of<T>(v[e] - z) - S(hit == e));
            *(uint4 *)(d + i) = sti_pack<T>(o);
        }
    }
    for (int64_t j = lane; j < part.head + vocab - part.tail; j += G) {
        const int64_t i = j < part.head ? j : part.tail + j - part.head;
        const S v = t < 0 ? S(0) : scale * (exp_of<T>((S)sti_get(x[i]) - z) - S(i == t));
        d[i] = sti_put<T>(acc ? (S)sti_get(d[i]) + v : v);
    }
}

template <typename T, int G>
void launch_forward(const strata_context *ctx, int64_t rows, int64_t vocab, const void *logits, const int32_t *target,
                    void *lse, void *out)
{
    typedef sti_sum_t<T> S;
    forward<T, G><<<(unsigned)((rows * G + BLOCK - 1) / BLOCK), BLOCK, 0, sti_stream(ctx)>>>(
        rows, vocab, (const T *)logits, target, (S *)lse, (S *)out);
    sti_launched(ctx, "crossentropy");
    if (!lse) return;
    count<S><<<1, 1024, 0, sti_stream(ctx)>>>(rows, target, (S *)lse);
    sti_launched(ctx, "crossentropy");
}

template <typename T, int G>
void launch_backward(const strata_context *ctx, int64_t rows, int64_t vocab, const void *logits, const int32_t *target,
                     const void *lse, void *dlogits, int acc)
{
    backward<T, G><<<(unsigned)((rows * G + BLOCK - 1) / BLOCK), BLOCK, 0, sti_stream(ctx)>>>(
        rows, vocab, (const T *)logits, target, (const sti_sum_t<T> *)lse, (T *)dlogits, acc);
    sti_launched(ctx, "crossentropy backward");
}

/* Threads of a row: so many that each has all its loads in flight at once, or the block. */
template <typename T> int threads_of(int64_t vocab)
{
    constexpr int64_t each = AHEAD * sti_wide<T>::n;
    return vocab <= 8 * each ? 8 : vocab <= 32 * each ? 32 : BLOCK;
}

template <typename T>
void run_forward(const strata_context *ctx, int64_t rows, int64_t vocab, const void *logits, const int32_t *target,
                 void *lse, void *out)
{
    switch (threads_of<T>(vocab)) {
    case 8: launch_forward<T, 8>(ctx, rows, vocab, logits, target, lse, out); break;
    case 32: launch_forward<T, 32>(ctx, rows, vocab, logits, target, lse, out); break;
    default: launch_forward<T, BLOCK>(ctx, rows, vocab, logits, target, lse, out); break;
    }
}

template <typename T>
void run_backward(const strata_context *ctx, int64_t rows, int64_t vocab, const void *logits, const int32_t *target,
                  const void *lse, void *dlogits, int acc)
{
    switch (threads_of<T>(vocab)) {
    case 8: launch_backward<T, 8>(ctx, rows, vocab, logits, target, lse, dlogits, acc); break;
    case 32: launch_backward<T, 32>(ctx, rows, vocab, logits, target, lse, dlogits, acc); break;
    default: launch_backward<T, BLOCK>(ctx, rows, vocab, logits, target, lse, dlogits, acc); break;
    }
}
} // namespace

extern "C" void sti_crossentropy_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                                              const void *logits, const int32_t *target, void *lse, void *out)
{
    if (rows < 1) return;
    STI_CUDA_TYPES(dtype, run_forward, ctx, rows, vocab, logits, target, lse, out);
}

extern "C" void sti_crossentropy_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                                               const void *logits, const int32_t *target, const void *lse,
                                               void *dlogits, int acc)
{
    if (rows < 1) return;
    STI_CUDA_TYPES(dtype, run_backward, ctx, rows, vocab, logits, target, lse, dlogits, acc);
}
