/* Cross-entropy on a device: forward reads the logits once (maximum and sum of exponentials together), backward reads
 * them once more and writes their gradients, in place where the planner gives both the same memory. A row belongs to a
 * block, or to a warp when it is short. Targets cannot be checked here: whoever uploads them has (trainer, evaluation).
 */
#include <float.h>

#include "backend/cuda/stream.cuh"
#include "kernel/crossentropy/crossentropy_cuda.h"

namespace
{
constexpr int WIDE = 256, NARROW = 32, BLOCK = 256; /* threads of a long row, of a short one, of a block of those */
constexpr int64_t SHORT = 1024;                     /* elements of the longest short row */
constexpr int AHEAD = 4;                            /* 16-byte loads in flight for each thread */

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

/* A row as elements before the first 16-byte boundary, pieces of 16 bytes, and elements after the last. */
template <typename T> struct split {
    int64_t head, pieces, tail; /* tail: index of its first element */
    __device__ split(const T *p, int64_t n)
    {
        constexpr int V = sti_wide<T>::n;
        const int64_t before = (16 - ((uintptr_t)p & 15)) % 16 / sizeof(T);
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

/* Reductions over the threads of a row: G = 32 a warp, else the block. */
template <int G, typename S> __device__ __forceinline__ S row_sum(S x, S *shared)
{
    return G == 32 ? sti_warp_sum(x) : sti_block_sum(x, shared);
}
template <int G, typename S> __device__ __forceinline__ S row_max(S x, S *shared)
{
    return G == 32 ? sti_warp_max(x) : sti_block_max(x, shared);
}

template <typename T, int G>
__global__ void __launch_bounds__(G == 32 ? BLOCK : G)
    forward(int64_t rows, int64_t vocab, const T *logits, const int32_t *target, sti_sum_t<T> *lse, sti_sum_t<T> *out)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n, each = (G == 32 ? BLOCK : G) / G;
    __shared__ S shared[32];
    const int lane = threadIdx.x % G;
    const int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / G;
    if (row >= rows) return;
    const T *x = logits + row * vocab;
    const split<T> part(x, vocab);
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
    if (lane) return;
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
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < rows; i += 1024) n += target[i] >= 0;
    n = sti_block_sum(n, shared);
    if (threadIdx.x == 0) lse[rows] = n ? S(1) / S(n) : S(0);
}

template <typename T, int G>
__global__ void __launch_bounds__(G == 32 ? BLOCK : G)
    backward(int64_t rows, int64_t vocab, const T *logits, const int32_t *target, const sti_sum_t<T> *lse, T *dlogits,
             int acc)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n, each = (G == 32 ? BLOCK : G) / G;
    const int lane = threadIdx.x % G;
    const int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / G;
    if (row >= rows) return;
    const T *x = logits + row * vocab;
    T *d = dlogits + row * vocab;
    const int64_t t = target[row];
    const S z = lse[row], scale = t < 0 ? S(0) : lse[rows];
    split<T> part(x, vocab);
    if (((uintptr_t)x & 15) != ((uintptr_t)d & 15)) part.head = part.tail = part.pieces = 0;
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

template <typename T>
void run_forward(const strata_context *ctx, int64_t rows, int64_t vocab, const void *logits, const int32_t *target,
                 void *lse, void *out)
{
    typedef sti_sum_t<T> S;
    if (vocab <= SHORT)
        forward<T, NARROW><<<(unsigned)((rows + BLOCK / NARROW - 1) / (BLOCK / NARROW)), BLOCK, 0, sti_stream(ctx)>>>(
            rows, vocab, (const T *)logits, target, (S *)lse, (S *)out);
    else
        forward<T, WIDE>
            <<<(unsigned)rows, WIDE, 0, sti_stream(ctx)>>>(rows, vocab, (const T *)logits, target, (S *)lse, (S *)out);
    sti_launched(ctx, "crossentropy");
    if (!lse) return;
    count<S><<<1, 1024, 0, sti_stream(ctx)>>>(rows, target, (S *)lse);
    sti_launched(ctx, "crossentropy");
}

template <typename T>
void run_backward(const strata_context *ctx, int64_t rows, int64_t vocab, const void *logits, const int32_t *target,
                  const void *lse, void *dlogits, int acc)
{
    typedef sti_sum_t<T> S;
    if (vocab <= SHORT)
        backward<T, NARROW><<<(unsigned)((rows + BLOCK / NARROW - 1) / (BLOCK / NARROW)), BLOCK, 0, sti_stream(ctx)>>>(
            rows, vocab, (const T *)logits, target, (const S *)lse, (T *)dlogits, acc);
    else
        backward<T, WIDE><<<(unsigned)rows, WIDE, 0, sti_stream(ctx)>>>(rows, vocab, (const T *)logits, target,
                                                                        (const S *)lse, (T *)dlogits, acc);
    sti_launched(ctx, "crossentropy backward");
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
