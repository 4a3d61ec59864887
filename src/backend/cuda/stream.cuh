#ifndef STI_STREAM_CUH
#define STI_STREAM_CUH
/* What kernels bound by memory share: 16-byte accesses, elementwise maps, sums over rows in a fixed order. */

#include <math.h>
#include <string.h>

#include "backend/cuda/cuda.cuh"

/* Elements of one 16-byte access. */
template <typename T> struct sti_wide {
    enum { n = 16 / sizeof(T) };
};

/* Sixteen bytes as numbers of the type of sums, and back. */
template <typename T, int n = sti_wide<T>::n>
__device__ __forceinline__ void sti_unpack(const uint4 &raw, sti_sum_t<T> (&x)[n])
{
    sti_vec<T, n> v;
    memcpy(&v, &raw, 16);
#pragma unroll
    for (int k = 0; k < n; k++) x[k] = sti_get(v.x[k]);
}
template <typename T, int n = sti_wide<T>::n> __device__ __forceinline__ uint4 sti_pack(const sti_sum_t<T> (&x)[n])
{
    sti_vec<T, n> v;
#pragma unroll
    for (int k = 0; k < n; k++) v.x[k] = sti_put<T>(x[k]);
    uint4 raw;
    memcpy(&raw, &v, 16);
    return raw;
}
template <> __device__ __forceinline__ uint4 sti_pack<sti_bf16, 8>(const float (&x)[8])
{
    uint4 raw;
    __nv_bfloat162 v[4];
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = __floats2bfloat162_rn(x[2 * k], x[2 * k + 1]);
    memcpy(&raw, v, 16);
    return raw;
}
/* n numbers of the type of sums beside n elements of type T: gains, biases, tables. 16-byte aligned. */
template <typename S, int n> __device__ __forceinline__ void sti_load_sums(const S *p, S (&x)[n])
{
    constexpr int per = sti_wide<S>::n;
#pragma unroll
    for (int k = 0; k < n; k += per) {
        const uint4 raw = *(const uint4 *)(p + k);
        memcpy(&x[k], &raw, 16);
    }
}

static inline bool sti_aligned(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

/* ---- elementwise ------------------------------------------------------------------------------------------------ */

template <typename T, int ins, int outs> struct sti_map_args {
    const T *in[ins]; /* NULL: zeros */
    T *out[outs];     /* NULL: not wanted; may be an input */
    int64_t n;
    bool wide; /* every array is 16-byte aligned */
};

enum { STI_MAP_THREADS = 256, STI_MAP_EACH = 2 }; /* 16-byte accesses of a thread to each array */

template <typename T, int ins, int outs, typename F>
__global__ void __launch_bounds__(STI_MAP_THREADS) sti_map_kernel(const sti_map_args<T, ins, outs> a, const F f)
{
    typedef sti_sum_t<T> S;
    constexpr int n = sti_wide<T>::n;
    const int64_t first = (int64_t)blockIdx.x * (STI_MAP_THREADS * STI_MAP_EACH) + threadIdx.x;
    uint4 raw[STI_MAP_EACH][ins];
#pragma unroll
    for (int u = 0; u < STI_MAP_EACH; u++)
#pragma unroll
        for (int k = 0; k < ins; k++) {
            const int64_t i = (first + u * STI_MAP_THREADS) * n;
            raw[u][k] = a.wide && a.in[k] && i + n <= a.n ? *(const uint4 *)(a.in[k] + i) : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
    for (int u = 0; u < STI_MAP_EACH; u++) {
        const int64_t i = (first + u * STI_MAP_THREADS) * n;
        if (a.wide && i + n <= a.n) {
            S x[ins][n], y[outs][n];
#pragma unroll
            for (int k = 0; k < ins; k++) sti_unpack<T>(raw[u][k], x[k]);
#pragma unroll
            for (int e = 0; e < n; e++) {
                S in[ins], out[outs];
#pragma unroll
                for (int k = 0; k < ins; k++) in[k] = x[k][e];
                f(in, out);
#pragma unroll
                for (int k = 0; k < outs; k++) y[k][e] = out[k];
            }
#pragma unroll
            for (int k = 0; k < outs; k++)
                if (a.out[k]) *(uint4 *)(a.out[k] + i) = sti_pack<T>(y[k]);
        } else {
            for (int64_t j = i; j < i + n && j < a.n; j++) {
                S in[ins], out[outs];
#pragma unroll
                for (int k = 0; k < ins; k++) in[k] = a.in[k] ? sti_get(a.in[k][j]) : S(0);
                f(in, out);
#pragma unroll
                for (int k = 0; k < outs; k++)
                    if (a.out[k]) a.out[k][j] = sti_put<T>(out[k]);
            }
        }
    }
}

/* out[k][i] = f(in[0][i], in[1][i], …)[k] for i < a.n; f(const S (&in)[ins], S (&out)[outs]) on numbers of the type of
 * sums. An accumulating output is an input too. */
template <typename T, int ins, int outs, typename F>
void sti_map(const strata_context *ctx, const char *what, sti_map_args<T, ins, outs> a, F f)
{
    if (a.n < 1) return;
    a.wide = true;
    for (int k = 0; k < ins; k++) a.wide = a.wide && sti_aligned(a.in[k]);
    for (int k = 0; k < outs; k++) a.wide = a.wide && sti_aligned(a.out[k]);
    const int64_t per = STI_MAP_THREADS * STI_MAP_EACH * sti_wide<T>::n;
    sti_map_kernel<T, ins, outs, F><<<(unsigned)((a.n + per - 1) / per), STI_MAP_THREADS, 0, sti_stream(ctx)>>>(a, f);
    sti_launched(ctx, what);
}

/* ---- sums over rows ---------------------------------------------------------------------------------------------- */

/* Second pass: to[j] += part[0][j] + part[1][j] + …, each block 32 columns, its 16 warps every 16th part. */
template <typename S>
__global__ void __launch_bounds__(512) sti_fold_kernel(int64_t parts, int64_t width, const S *part, S *to)
{
    __shared__ S sum[16][33];
    const int x = threadIdx.x & 31, y = threadIdx.x >> 5;
    const int64_t j = (int64_t)blockIdx.x * 32 + x;
    S s = 0;
    if (j < width)
#pragma unroll 4
        for (int64_t p = y; p < parts; p += 16) s += part[p * width + j];
    sum[y][x] = s;
    __syncthreads();
    if (y || j >= width) return;
    s = 0;
#pragma unroll
    for (int k = 0; k < 16; k++) s += sum[k][x];
    to[j] += s;
}

template <typename S>
void sti_fold(const strata_context *ctx, const char *what, int64_t parts, int64_t width, const S *part, S *to)
{
    sti_fold_kernel<S><<<(unsigned)((width + 31) / 32), 512, 0, sti_stream(ctx)>>>(parts, width, part, to);
    sti_launched(ctx, what);
}

/* ---- positions --------------------------------------------------------------------------------------------------- */

/* First positions of up to 256 sequences, passed by value: the caller's array is host memory. */
struct sti_places {
    enum { most = 256 };
    int32_t at[most];
};

static inline sti_places sti_places_of(const int64_t *pos, int64_t first, int64_t count)
{
    sti_places p;
    for (int64_t i = 0; i < sti_places::most; i++) p.at[i] = pos && i < count ? (int32_t)pos[first + i] : 0;
    return p;
}

#endif
