/* Norms on a device. Where a row consists of aligned 16-byte pieces, a group of 8 to 256 threads holds it in registers:
 * one read, one write. Backward keeps its blocks resident: every thread owns the same columns of many rows and sums
 * their share of dgain and dbias in registers; blocks leave partial sums in `work`, a second pass adds them in order.
 * Other rows (f64, odd widths, very wide ones) take the loops at the end. */
#include "backend/cuda/stream.cuh"
#include "kernel/norm/norm_cuda.h"

namespace
{
constexpr int THREADS = 256;
constexpr int64_t PARTS = 1024; /* most partial sums of a column */

/* Sums of two numbers over the G threads of a row; G above 32: over the block, `shared` holds 2 * 32 of them. */
template <int G, typename S> __device__ __forceinline__ void sum2(S &a, S &b, S *shared)
{
#pragma unroll
    for (int d = (G < 32 ? G : 32) / 2; d; d >>= 1) {
        a += __shfl_xor_sync(0xffffffffu, a, d);
        b += __shfl_xor_sync(0xffffffffu, b, d);
    }
    if (G > 32) {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        __syncthreads();
        if (lane == 0) shared[warp] = a, shared[32 + warp] = b;
        __syncthreads();
        a = shared[0], b = shared[32];
#pragma unroll
        for (int k = 1; k < G / 32; k++) a += shared[k], b += shared[32 + k];
    }
}

template <typename S> __device__ __forceinline__ S inverse_root(S x)
{
    return S(1) / sqrt(x);
}

/* K 16-byte pieces for each of the G threads of a row. SUM: x is written first, as a + b. */
template <typename T, int G, int K, bool SUM>
__global__ void __launch_bounds__(G > 32 ? G : THREADS)
    forward(const sti_norm_shape n, T *x, const T *a, const T *b, const sti_sum_t<T> *gain, const sti_sum_t<T> *bias,
            T *y, sti_sum_t<T> *stat)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n, each = (G > 32 ? G : THREADS) / G;
    __shared__ S shared[64];
    const int lane = threadIdx.x % G, pieces = (int)(n.width / V);
    const int64_t row = (int64_t)blockIdx.x * each + threadIdx.x / G;
    const bool live = row < n.rows;
    uint4 raw[K], more[SUM ? K : 1];
    S sum = 0, square = 0, none = 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int c = k * G + lane;
        const int64_t at = row * n.stride + c * V;
        const bool in = live && c < pieces;
        raw[k] = in ? *(const uint4 *)((SUM ? a : x) + at) : make_uint4(0, 0, 0, 0);
        if (SUM) more[k] = in ? *(const uint4 *)(b + at) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int k = 0; k < K && SUM; k++) {
        const int c = k * G + lane;
        S u[V], v[V];
        sti_unpack<T>(raw[k], u);
        sti_unpack<T>(more[k], v);
#pragma unroll
        for (int e = 0; e < V; e++) u[e] += v[e];
        raw[k] = sti_pack<T>(u); /* the norm is that of the rounded sum */
        if (live && c < pieces) *(uint4 *)(x + row * n.stride + c * V) = raw[k];
    }
    S mean = 0;
    if (n.center) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            S v[V];
            sti_unpack<T>(raw[k], v);
#pragma unroll
            for (int e = 0; e < V; e++) sum += v[e];
        }
        sum2<G>(sum, none, shared);
        mean = sum / S(n.width);
    }
#pragma unroll
    for (int k = 0; k < K; k++) {
        S v[V];
        sti_unpack<T>(raw[k], v);
#pragma unroll
        for (int e = 0; e < V; e++) square += k * G + lane < pieces ? (v[e] - mean) * (v[e] - mean) : S(0);
    }
    sum2<G>(square, none, shared);
    const S rstd = inverse_root(square / S(n.width) + S(n.eps));
    if (!live) return;
    if (stat && lane == 0) stat[2 * row] = mean, stat[2 * row + 1] = rstd;
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int c = k * G + lane;
        if (c >= pieces) continue;
        S v[V], g[V], shift[V] = { 0 };
        sti_unpack<T>(raw[k], v);
        sti_load_sums(gain + c * V, g);
        if (bias) sti_load_sums(bias + c * V, shift);
#pragma unroll
        for (int e = 0; e < V; e++) v[e] = (v[e] - mean) * rstd * g[e] + shift[e];
        *(uint4 *)(y + row * n.stride + c * V) = sti_pack<T>(v);
    }
}

/* part: dgain's sums (blocks, width), then dbias's; NULL: not wanted. `shared`: a row for each group of the block. */
template <typename T, int G, int K>
__global__ void __launch_bounds__(G > 32 ? G : THREADS)
    backward(const sti_norm_shape n, const T *x, const sti_sum_t<T> *gain, const sti_sum_t<T> *stat, const T *dy, T *dx,
             int acc, sti_sum_t<T> *part)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n, each = (G > 32 ? G : THREADS) / G;
    __shared__ S shared[64];
    extern __shared__ __align__(16) unsigned char rows_shared[];
    S *group_row = (S *)rows_shared;
    const int lane = threadIdx.x % G, group = threadIdx.x / G, pieces = (int)(n.width / V);
    S dgain[K][V], dbias[K][V];
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int e = 0; e < V; e++) dgain[k][e] = dbias[k][e] = 0;
    /* every thread of a warp makes the same number of turns: the shuffles need them all */
    for (int64_t first = (int64_t)blockIdx.x * each; first < n.rows; first += (int64_t)gridDim.x * each) {
        const int64_t row = first + group;
        const bool live = row < n.rows;
        uint4 rx[K], rdy[K], old[K];
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int c = k * G + lane;
            const int64_t i = row * n.stride + c * V;
            const bool in = live && c < pieces;
            rx[k] = in ? *(const uint4 *)(x + i) : make_uint4(0, 0, 0, 0);
            rdy[k] = in ? *(const uint4 *)(dy + i) : make_uint4(0, 0, 0, 0);
            old[k] = in && acc ? *(const uint4 *)(dx + i) : make_uint4(0, 0, 0, 0);
        }
        const S mean = live ? stat[2 * row] : S(0), rstd = live ? stat[2 * row + 1] : S(0);
        S p = 0, q = 0;
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int c = k * G + lane;
            S vx[V], vdy[V], g[V] = { 0 };
            sti_unpack<T>(rx[k], vx);
            sti_unpack<T>(rdy[k], vdy);
            if (c < pieces) sti_load_sums(gain + c * V, g);
#pragma unroll
            for (int e = 0; e < V; e++) {
                const S h = (vx[e] - mean) * rstd;
                dgain[k][e] += vdy[e] * h;
                dbias[k][e] += vdy[e];
                p += vdy[e] * g[e];
                q += vdy[e] * g[e] * h;
            }
        }
        if (!dx) continue;
        sum2<G>(p, q, shared);
        p = n.center ? p / S(n.width) : S(0);
        q /= S(n.width);
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int c = k * G + lane;
            if (!live || c >= pieces) continue;
            S vx[V], vdy[V], g[V], o[V];
            sti_unpack<T>(rx[k], vx);
            sti_unpack<T>(rdy[k], vdy);
            sti_unpack<T>(old[k], o);
            sti_load_sums(gain + c * V, g);
#pragma unroll
            for (int e = 0; e < V; e++) o[e] += rstd * (vdy[e] * g[e] - p - (vx[e] - mean) * rstd * q);
            *(uint4 *)(dx + row * n.stride + c * V) = sti_pack<T>(o);
        }
    }
    if (!part) return;
    for (int turn = 0; turn < 2; turn++) {
        S *to = part + ((int64_t)turn * gridDim.x + blockIdx.x) * n.width;
        if (each > 1) __syncthreads();
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int c = k * G + lane;
            if (c >= pieces) continue;
#pragma unroll
            for (int e = 0; e < V; e++) {
                const S v = turn ? dbias[k][e] : dgain[k][e];
                if (each > 1)
                    group_row[group * n.width + c * V + e] = v;
                else
                    to[c * V + e] = v;
            }
        }
        if (each == 1) continue;
        __syncthreads();
        for (int j = threadIdx.x; j < n.width; j += blockDim.x) {
            S s = group_row[j];
            for (int k = 1; k < each; k++) s += group_row[k * n.width + j];
            to[j] = s;
        }
    }
}

/* ---- any width, any alignment: a warp for each row --------------------------------------------------------------- */

template <typename T>
__global__ void __launch_bounds__(THREADS) forward_any(const sti_norm_shape n, const T *x, const sti_sum_t<T> *gain,
                                                       const sti_sum_t<T> *bias, T *y, sti_sum_t<T> *stat)
{
    typedef sti_sum_t<T> S;
    const int lane = threadIdx.x & 31;
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (row >= n.rows) return;
    x += row * n.stride;
    y += row * n.stride;
    S sum = 0, square = 0;
    if (n.center)
        for (int64_t j = lane; j < n.width; j += 32) sum += sti_get(x[j]);
    const S mean = sti_warp_sum(sum) / S(n.width);
    for (int64_t j = lane; j < n.width; j += 32) square += (sti_get(x[j]) - mean) * (sti_get(x[j]) - mean);
    const S rstd = inverse_root(sti_warp_sum(square) / S(n.width) + S(n.eps));
    if (stat && lane == 0) stat[2 * row] = mean, stat[2 * row + 1] = rstd;
    for (int64_t j = lane; j < n.width; j += 32)
        y[j] = sti_put<T>((sti_get(x[j]) - mean) * rstd * gain[j] + (bias ? bias[j] : S(0)));
}

template <typename T>
__global__ void __launch_bounds__(THREADS) backward_any(const sti_norm_shape n, const T *x, const sti_sum_t<T> *gain,
                                                        const sti_sum_t<T> *stat, const T *dy, T *dx, int acc)
{
    typedef sti_sum_t<T> S;
    const int lane = threadIdx.x & 31;
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (row >= n.rows) return;
    x += row * n.stride;
    dy += row * n.stride;
    dx += row * n.stride;
    const S mean = stat[2 * row], rstd = stat[2 * row + 1];
    S p = 0, q = 0;
    for (int64_t j = lane; j < n.width; j += 32) {
        const S g = sti_get(dy[j]) * gain[j];
        p += g;
        q += g * ((sti_get(x[j]) - mean) * rstd);
    }
    p = n.center ? sti_warp_sum(p) / S(n.width) : S(0);
    q = sti_warp_sum(q) / S(n.width);
    for (int64_t j = lane; j < n.width; j += 32) {
        const S d = rstd * (sti_get(dy[j]) * gain[j] - p - (sti_get(x[j]) - mean) * rstd * q);
        dx[j] = sti_put<T>(acc ? sti_get(dx[j]) + d : d);
    }
}

/* Block (tile of 32 columns, chunk of rows): its 8 warps take every 8th row. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    columns_any(const sti_norm_shape n, const T *x, const sti_sum_t<T> *stat, const T *dy, sti_sum_t<T> *part)
{
    typedef sti_sum_t<T> S;
    __shared__ S shared[2][8][33];
    const int lane = threadIdx.x & 31, y = threadIdx.x >> 5;
    const int64_t j = (int64_t)blockIdx.x * 32 + lane, span = (n.rows + gridDim.y - 1) / gridDim.y;
    const int64_t first = blockIdx.y * span, last = first + span < n.rows ? first + span : n.rows;
    S a = 0, b = 0;
    if (j < n.width)
        for (int64_t i = first + y; i < last; i += 8) {
            const S d = sti_get(dy[i * n.stride + j]);
            a += d * ((sti_get(x[i * n.stride + j]) - stat[2 * i]) * stat[2 * i + 1]);
            b += d;
        }
    shared[0][y][lane] = a, shared[1][y][lane] = b;
    __syncthreads();
    if (y > 1 || j >= n.width) return;
    S s = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) s += shared[y][k][lane];
    part[((int64_t)y * gridDim.y + blockIdx.y) * n.width + j] = s;
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

template <typename T> struct call {
    typedef sti_sum_t<T> S;
    const strata_context *ctx;
    const sti_norm_shape *n;
    const T *x;
    const S *gain;
    T *y;          /* forward's output, backward's dx */
    const S *bias; /* forward */
    S *stat;       /* forward writes, backward reads */
    const T *dy;   /* backward; NULL: forward */
    int acc;
    S *part;         /* backward's partial sums */
    int64_t *blocks; /* backward: how many of them */
    const T *a, *b;  /* forward: x = a + b is written first; NULL: x is given */
};

template <typename T, int G, int K> void launch(const call<T> &c)
{
    constexpr int threads = G > 32 ? G : THREADS, each = threads / G;
    const int64_t want = (c.n->rows + each - 1) / each;
    if (!c.dy) {
        const auto fn = c.a ? forward<T, G, K, true> : forward<T, G, K, false>;
        fn<<<(unsigned)want, threads, 0, sti_stream(c.ctx)>>>(*c.n, (T *)c.x, c.a, c.b, c.gain, c.bias, c.y, c.stat);
    } else {
        /* as many blocks as are resident at once, and not more than `work` has room for */
        const size_t shared = each > 1 ? each * (size_t)c.n->width * sizeof(typename call<T>::S) : 0;
        int resident = 1;
        (void)cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, backward<T, G, K>, threads, shared);
        const int64_t blocks = sti_blocks(c.ctx, want, 1, resident > 0 ? resident : 1);
        *c.blocks = blocks < PARTS ? blocks : PARTS;
        backward<T, G, K><<<(unsigned)*c.blocks, threads, shared, sti_stream(c.ctx)>>>(*c.n, c.x, c.gain, c.stat, c.dy,
                                                                                       c.y, c.acc, c.part);
    }
    sti_launched(c.ctx, "norm");
}

/* Does a row consist of aligned 16-byte pieces that registers can hold? Then launch and return true. */
template <typename T> bool in_registers(const call<T> &c)
{
    constexpr int V = sti_wide<T>::n;
    const bool fits = c.n->width % V == 0 && c.n->stride % V == 0 && sti_aligned(c.x) && sti_aligned(c.y) &&
                      sti_aligned(c.gain) && sti_aligned(c.bias) && sti_aligned(c.dy) && sti_aligned(c.a) &&
                      sti_aligned(c.b);
    const int64_t pieces = c.n->width / V;
    if (!fits || pieces > 1024) return false;
    if (pieces <= 8)
        launch<T, 8, 1>(c);
    else if (pieces <= 32)
        launch<T, 32, 1>(c);
    else if (pieces <= 64)
        launch<T, 32, 2>(c);
    else if (pieces <= 96)
        launch<T, 32, 3>(c);
    else if (pieces <= 128)
        launch<T, 128, 1>(c);
    else if (pieces <= 256)
        launch<T, 256, 1>(c);
    else if (pieces <= 384)
        launch<T, 128, 3>(c);
    else if (pieces <= 512)
        launch<T, 256, 2>(c);
    else
        launch<T, 256, 4>(c);
    return true;
}
template <> bool in_registers<double>(const call<double> &)
{
    return false;
}

template <typename T> struct plus {
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[2], sti_sum_t<T> (&out)[1]) const
    {
        out[0] = in[0] + in[1];
    }
};

template <typename T>
void run_forward(const strata_context *ctx, const sti_norm_shape *n, const void *a, const void *b, const void *x,
                 const void *gain, const void *bias, void *y, void *stat)
{
    typedef sti_sum_t<T> S;
    const call<T> c = { ctx,     n, (const T *)x, (const S *)gain, (T *)y,       (const S *)bias, (S *)stat,
                        nullptr, 0, nullptr,      nullptr,         (const T *)a, (const T *)b };
    if (n->rows < 1 || in_registers<T>(c)) return;
    if (a) sti_map<T, 2, 1>(ctx, "sum", { { c.a, c.b }, { (T *)x }, n->rows * n->width, false }, plus<T>());
    const unsigned blocks = (unsigned)((n->rows + THREADS / 32 - 1) / (THREADS / 32));
    forward_any<T><<<blocks, THREADS, 0, sti_stream(ctx)>>>(*n, c.x, c.gain, c.bias, c.y, c.stat);
    sti_launched(ctx, "norm");
}

template <typename T>
void run_backward(const strata_context *ctx, const sti_norm_shape *n, const void *x, const void *gain, const void *stat,
                  const void *dy, void *dx, int acc, void *dgain, void *dbias, void *work)
{
    typedef sti_sum_t<T> S;
    S *part = dgain || dbias ? (S *)work : nullptr;
    int64_t parts = 0;
    const call<T> c = { ctx,           n,   (const T *)x, (const S *)gain, (T *)dx, nullptr, (S *)stat,
                        (const T *)dy, acc, part,         &parts,          nullptr, nullptr };
    if (n->rows < 1) return;
    if (!in_registers<T>(c)) {
        if (dx) {
            const unsigned blocks = (unsigned)((n->rows + THREADS / 32 - 1) / (THREADS / 32));
            backward_any<T><<<blocks, THREADS, 0, sti_stream(ctx)>>>(*n, c.x, c.gain, c.stat, c.dy, c.y, acc);
            sti_launched(ctx, "norm backward");
        }
        if (part) {
            const int64_t most = (n->rows + 63) / 64;
            parts = most < PARTS ? most : PARTS;
            columns_any<T><<<dim3((unsigned)((n->width + 31) / 32), (unsigned)parts), THREADS, 0, sti_stream(ctx)>>>(
                *n, c.x, c.stat, c.dy, part);
            sti_launched(ctx, "norm gradients");
        }
    }
    if (dgain) sti_fold(ctx, "norm gradients", parts, n->width, part, (S *)dgain);
    if (dbias) sti_fold(ctx, "norm gradients", parts, n->width, part + parts * n->width, (S *)dbias);
}
} // namespace

extern "C" size_t sti_norm_work_cuda(int64_t width)
{
    return (size_t)PARTS * 2 * (size_t)width * sizeof(double);
}

extern "C" void sti_norm_forward_cuda(const strata_context *ctx, int32_t dtype, const sti_norm_shape *n, const void *x,
                                      const void *gain, const void *bias, void *y, void *stat)
{
    STI_CUDA_TYPES(dtype, run_forward, ctx, n, nullptr, nullptr, x, gain, bias, y, stat);
}

extern "C" void sti_norm_sum_forward_cuda(const strata_context *ctx, int32_t dtype, const sti_norm_shape *n,
                                          const void *a, const void *b, void *x, const void *gain, const void *bias,
                                          void *y, void *stat)
{
    STI_CUDA_TYPES(dtype, run_forward, ctx, n, a, b, x, gain, bias, y, stat);
}

extern "C" void sti_norm_backward_cuda(const strata_context *ctx, int32_t dtype, const sti_norm_shape *n, const void *x,
                                       const void *gain, const void *stat, const void *dy, void *dx, int acc,
                                       void *dgain, void *dbias, void *work)
{
    STI_CUDA_TYPES(dtype, run_backward, ctx, n, x, gain, stat, dy, dx, acc, dgain, dbias, work);
}
