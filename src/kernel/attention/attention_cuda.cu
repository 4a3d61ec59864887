/* Attention for every shape on any CUDA device: the tile engine of attention.inc with a block of threads for a tile.
 *
 * A block owns TILE rows (queries for o and dq, keys for dk and dv) and a slab of output columns; columns of TILE
 * positions of the other side stream past. Two products do everything, both with 4 x 4 sums a thread:
 *     product     S[row][col] += sum over k of a[row][k] b[col][k]       scores, and dP = do . v
 *     accumulate  C[row][c]   += sum over col of X[row][col] b[col][c]   o, dq, dk, dv
 * A level covers, for a tile, `some` columns (at least one row sees them) and `all` (every row does). Where the two
 * agree a prefix of the columns needs no mask; where they differ the deepest level is added first and cleared outside
 * its interval before the next. Sums are f32 for bf16. Every result has one writer, so no atomics. */
#include "backend/cuda/cuda.cuh"
#include "kernel/attention/attention_cuda.h"

#include <math.h>

namespace
{

enum { TILE = 64, CHUNK = 32, THREADS = 256, LEVELS = STI_ATTENTION_LEVELS };
enum mode { FORWARD, DELTA, DQ };

/* One softmax and one call; arrays of q and k start at the softmax's first column. */
struct job {
    sti_attention_part part;
    int32_t qk[LEVELS + 1], v[LEVELS + 1]; /* column at which each level starts */
    int32_t causal, alibi, varies, levels, vlevels;
    int32_t d_qk, d_v; /* columns of this softmax */
    int32_t add;       /* 1: o or dv of the softmax before it is there already */
    int64_t heads, kv_heads;
    sti_attention_call c;
    void *delta;        /* (batch, head, time), like lse */
    int64_t delta_head; /* its stride */
};

/* ---- numbers ------------------------------------------------------------------------------------------------------
 */

__device__ __forceinline__ float power(float x) /* of the base */
{
    return exp2f(x);
}
__device__ __forceinline__ double power(double x)
{
    return exp(x);
}
__device__ __forceinline__ float logarithm(float x)
{
    return log2f(x);
}
__device__ __forceinline__ double logarithm(double x)
{
    return log(x);
}
template <typename S> __device__ __forceinline__ S base() /* scores are kept in units of it */
{
    return sizeof(S) == 4 ? S(1.4426950408889634) : S(1);
}

/* ---- shared memory ------------------------------------------------------------------------------------------------
 */

template <typename S> struct shared {
    S a[CHUNK][TILE], b[CHUNK][TILE]; /* columns of the two sides, transposed; or rows of one side */
    S x[TILE][TILE];                  /* (column, row), rows of four swizzled */
    S lse[TILE], delta[TILE];         /* of the columns */
    sti_interval some[LEVELS], all[LEVELS];
    S scale[1]; /* of every column of q and k */
};

template <typename S> __device__ __forceinline__ sti_vec<S, 4> *cell(shared<S> &m, int col, int ty)
{
    return (sti_vec<S, 4> *)&m.x[col][(ty ^ (col >> 2 & 7)) * 4];
}

/* Rows of one side. `whole`: four neighbours may be read at once where the column is a multiple of four. */
template <typename T> struct side {
    const T *data;
    int64_t stride;
    int count;
    bool whole;
    bool scaled; /* multiply by m.scale */
};

template <typename T>
__device__ __forceinline__ side<T> side_at(const sti_attention_array &a, int64_t b, int64_t h, int64_t t, int count,
                                           bool scaled = false)
{
    const T *data = (const T *)a.data + b * a.batch + h * a.head + t * a.time;
    const bool whole = a.time % 4 == 0 && (uintptr_t)data % (4 * sizeof(T)) == 0;
    return side<T>{ data, a.time, count, whole, scaled };
}

/* to[k][row] = columns [c, c + n) */
template <typename T, typename S>
__device__ void load_columns(S (*to)[TILE], const side<T> &s, const S *scale, int c, int n)
{
    if (s.whole && c % 4 == 0 && n % 4 == 0) {
        const int row = threadIdx.x % TILE;
        for (int k = threadIdx.x / TILE * 4; k < n; k += THREADS / TILE * 4) {
            sti_vec<T, 4> x;
            if (row < s.count) x = *(const sti_vec<T, 4> *)(s.data + row * s.stride + c + k);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const S y = row < s.count ? S(sti_get(x.x[i])) : S(0);
                to[k + i][row] = s.scaled ? y * scale[c + k + i] : y;
            }
        }
        return;
    }
    const int k = threadIdx.x % CHUNK;
    for (int row = threadIdx.x / CHUNK; k < n && row < TILE; row += THREADS / CHUNK) {
        const S y = row < s.count ? S(sti_get(s.data[row * s.stride + c + k])) : S(0);
        to[k][row] = s.scaled ? y * scale[c + k] : y;
    }
}

/* acc[i][j] += columns [from, to) of row 4 ty + i and column 4 tx + j. The loads see what was written before the call.
 */
template <typename T, typename S>
__device__ __forceinline__ void product(shared<S> &m, const side<T> &a, const side<T> &b, int from, int to, S acc[4][4])
{
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (int c = from; c < to; c += CHUNK) {
        const int n = min((int)CHUNK, to - c);
        __syncthreads();
        load_columns(m.a, a, m.scale, c, n);
        load_columns(m.b, b, m.scale, c, n);
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < n; k++) {
            const sti_vec<S, 4> x = *(const sti_vec<S, 4> *)&m.a[k][ty * 4],
                                y = *(const sti_vec<S, 4> *)&m.b[k][tx * 4];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] += x.x[i] * y.x[j];
        }
    }
}

/* acc[i][4 u + j] += sum over the tile's columns of X times column first + 64 u + 4 tx + j of b, for the columns in
 * [from, to) only. X is what the threads wrote before the call. */
template <int U, typename T, typename S>
__device__ __forceinline__ void accumulate(shared<S> &m, const side<T> &b, int first, int from, int to, S acc[4][4 * U])
{
    constexpr int W = 64 * U, SUB = 2 * CHUNK * TILE / W;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    S *const tile = &m.a[0][0];
    if (to <= first || from >= first + W) return;
    const int lo = max(from - first, 0), hi = min(to - first, W);
    for (int row0 = 0; row0 < b.count; row0 += SUB) {
        const int rows = min(SUB, b.count - row0);
        __syncthreads();
        for (int i = threadIdx.x * 4; i < rows * W; i += THREADS * 4) {
            const int row = i / W, k = i % W, c = first + k;
            const T *at = b.data + (row0 + row) * b.stride + c;
            sti_vec<S, 4> y;
            if (b.whole && k >= lo && k + 4 <= hi) {
                const sti_vec<T, 4> x = *(const sti_vec<T, 4> *)at;
#pragma unroll
                for (int e = 0; e < 4; e++) y.x[e] = S(sti_get(x.x[e]));
            } else {
#pragma unroll
                for (int e = 0; e < 4; e++) y.x[e] = k + e >= lo && k + e < hi ? S(sti_get(at[e])) : S(0);
            }
            if (b.scaled)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (k + e >= lo && k + e < hi) y.x[e] *= m.scale[c + e];
            *(sti_vec<S, 4> *)(tile + i) = y;
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < rows; k++) {
            const sti_vec<S, 4> x = *cell(m, row0 + k, ty);
#pragma unroll
            for (int u = 0; u < U; u++) {
                if (U > 1 && (64 * u >= hi || 64 * u + 64 <= lo)) continue;
                const sti_vec<S, 4> y = *(const sti_vec<S, 4> *)(tile + k * W + 64 * u + tx * 4);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) acc[i][4 * u + j] += x.x[i] * y.x[j];
            }
        }
    }
}

/* X = p, for accumulate. Nobody may still be reading the one before. */
template <typename S> __device__ __forceinline__ void store_x(shared<S> &m, const S p[4][4])
{
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 4; j++) {
        sti_vec<S, 4> y;
#pragma unroll
        for (int i = 0; i < 4; i++) y.x[i] = p[i][j];
        *cell(m, tx * 4 + j, ty) = y;
    }
}

/* ---- geometry of a tile -------------------------------------------------------------------------------------------
 */

struct tile {
    int64_t row, col; /* positions of the first row and column */
    int cols;         /* columns in use */
    int some, all;    /* levels that join them with at least one row, with every row */
    bool of_key;      /* rows are keys */
};

/* The intervals of rows [row, row + rows). */
template <typename S> __device__ void intervals(shared<S> &m, const job &w, int64_t row, int rows, bool of_key)
{
    for (int l = threadIdx.x; l < w.levels; l += THREADS) {
        const sti_interval a = sti_attention_range(&w.part, w.causal, l, row, of_key);
        const sti_interval b = sti_attention_range(&w.part, w.causal, l, row + rows - 1, of_key);
        m.some[l].lo = a.lo;
        m.some[l].hi = b.hi;
        m.all[l].lo = b.lo;
        m.all[l].hi = a.hi;
    }
    __syncthreads();
}

template <typename S> __device__ __forceinline__ void depths(const shared<S> &m, const job &w, tile &t)
{
    t.some = t.all = 0;
    for (int l = 0; l < w.levels; l++) {
        t.some += m.some[l].lo < t.col + t.cols && t.col < m.some[l].hi;
        t.all += m.all[l].lo <= t.col && t.col + t.cols <= m.all[l].hi;
    }
}

/* The tile's columns that level l joins with row i of this thread. Called where depths are mixed only. */
__device__ __noinline__ int2 span(const job &w, const tile &t, int l, int i)
{
    const sti_interval r = sti_attention_range(&w.part, w.causal, l, t.row + threadIdx.x / 16 * 4 + i, t.of_key);
    return make_int2((int)min(max(r.lo - t.col, (int64_t)0), (int64_t)TILE),
                     (int)min(max(r.hi - t.col, (int64_t)0), (int64_t)TILE));
}

template <typename S>
__device__ __forceinline__ void fill_outside(const job &w, const tile &t, int l, S value, S acc[4][4])
{
    const int tx = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int2 r = span(w, t, l, i);
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (tx * 4 + j < r.x || tx * 4 + j >= r.y) acc[i][j] = value;
    }
}

/* acc = sum over the levels that cover each pair; levels start at column at[l], and `levels` have columns. */
template <typename T, typename S>
__device__ __forceinline__ void level_product(shared<S> &m, const job &w, const tile &t, const side<T> &a,
                                              const side<T> &b, const int32_t *at, int levels, S acc[4][4])
{
    const int deep = min(t.some, levels), whole = min(t.all, levels);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = S(0);
    for (int l = deep - 1; l >= whole - 1; l--) { /* at last the levels that cover every pair */
        const bool mixed = l >= whole;
        product(m, a, b, mixed ? at[l] : 0, mixed ? at[l + 1] : at[whole], acc);
        if (mixed && l > 0) fill_outside(w, t, l, S(0), acc);
    }
}

/* Factor of each pair by its depth. */
template <typename S> __device__ __forceinline__ void gains(const job &w, const tile &t, S f[4][4])
{
    const int tx = threadIdx.x % 16, sure = max(t.all, 1);
    const S first = S(w.part.gain[sure]);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) f[i][j] = first;
    for (int l = sure; w.varies && l < t.some; l++) {
        const S g = S(w.part.gain[l + 1]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int2 r = span(w, t, l, i);
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (tx * 4 + j >= r.x && tx * 4 + j < r.y) f[i][j] = g;
        }
    }
}

/* Scores of a tile in units of the base, -inf outside the mask; f: the gains. */
template <typename T, typename S>
__device__ __forceinline__ void scores(shared<S> &m, const job &w, const tile &t, const side<T> &a, const side<T> &b,
                                       S slope, S s[4][4], S f[4][4])
{
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    level_product(m, w, t, a, b, w.qk, w.levels, s);
    gains(w, t, f);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) s[i][j] *= f[i][j] * base<S>();
    if (w.alibi)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int64_t d = t.row + ty * 4 + i - t.col - tx * 4 - j;
                s[i][j] -= slope * S(d < 0 ? -d : d);
            }
    if (t.all == 0) fill_outside(w, t, 0, S(-INFINITY), s);
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (tx * 4 + j >= t.cols)
#pragma unroll
            for (int i = 0; i < 4; i++) s[i][j] = S(-INFINITY);
}

/* acc += X b, level by level: pairs outside a level are cleared before the level's columns are added. p is X. */
template <int U, typename T, typename S>
__device__ __forceinline__ void level_accumulate(shared<S> &m, const job &w, const tile &t, S p[4][4], const side<T> &b,
                                                 const int32_t *at, int levels, int first, S acc[4][4 * U])
{
    const int deep = min(t.some, levels), sure = max(min(t.all, levels), 1);
    for (int l = sure - 1; l < deep; l++) { /* first the levels that cover every pair of the mask */
        const bool mixed = l >= sure;
        if (mixed) fill_outside(w, t, l, S(0), p);
        store_x(m, p);
        accumulate<U>(m, b, first, mixed ? at[l] : 0, at[l + 1], acc);
    }
}

template <typename S> __device__ __forceinline__ S slope_of(const job &w, int64_t h)
{
    return w.alibi ? S(exp2(-8.0 * (double)(h + 1) / (double)w.heads)) * base<S>() : S(0);
}

template <typename S> __device__ void load_scales(shared<S> &m, const job &w)
{
    for (int l = 0; l < w.levels; l++)
        for (int c = w.qk[l] + threadIdx.x; c < w.qk[l + 1]; c += THREADS) m.scale[c] = S(w.part.level[l].scale);
    __syncthreads();
}

template <typename S> __device__ __forceinline__ S lane_sum(S x) /* over the 16 threads of a row */
{
#pragma unroll
    for (int d = 8; d; d >>= 1) x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}
template <typename S> __device__ __forceinline__ S lane_max(S x)
{
#pragma unroll
    for (int d = 8; d; d >>= 1) x = max(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}

/* Rows 4 ty … of an output, columns first + 64 u + 4 tx … below `width`. */
template <int U, typename T, typename S>
__device__ __forceinline__ void put_rows(const sti_attention_array &a, int64_t b, int64_t h, int64_t t, int rows,
                                         int first, int width, const S *scale, bool add, const S acc[4][4 * U])
{
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        T *to = (T *)a.data + b * a.batch + h * a.head + (t + ty * 4 + i) * a.time;
        if (ty * 4 + i >= rows) continue;
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int c = first + 64 * u + tx * 4 + j;
                if (c >= width) continue;
                S x = acc[i][4 * u + j];
                if (scale) x *= scale[c];
                if (add) x += S(sti_get(to[c]));
                to[c] = sti_put<T>(x);
            }
    }
}

/* ---- rows are queries: o and lse, delta, dq -----------------------------------------------------------------------
 */

template <typename T, int MODE, int U>
__global__ void __launch_bounds__(THREADS, sizeof(T) < 8 ? 2 : 1) query_rows(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    extern __shared__ __align__(32) unsigned char raw[];
    shared<S> &m = *(shared<S> *)raw;
    const sti_attention_call &c = w.c;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, first = (int)blockIdx.y * 64 * U;
    const int64_t n = c.batch * w.heads, tiles = (c.q_time + TILE - 1) / TILE;
    const int64_t b = blockIdx.x % n / w.heads, h = blockIdx.x % n % w.heads, g = h * w.kv_heads / w.heads;
    const int64_t t0 = (tiles - 1 - blockIdx.x / n) * TILE; /* the longest rows of a causal mask first */
    const int rows = (int)min((int64_t)TILE, c.q_time - t0);
    const S slope = slope_of<S>(w, h);
    const S *lse = (const S *)c.lse.data + b * c.lse.batch + h * c.lse.head + t0 * c.lse.time;
    const S *delta = (const S *)w.delta + (b * w.heads + h) * w.delta_head + t0;
    load_scales(m, w);
    intervals(m, w, c.q_pos + t0, rows, false);

    const side<T> q = side_at<T>(c.q, b, h, t0, rows, true), dout = side_at<T>(c.dout, b, h, t0, rows);
    S acc[4][4 * U], top[4], sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bool in = ty * 4 + i < rows;
#pragma unroll
        for (int j = 0; j < 4 * U; j++) acc[i][j] = S(0);
        top[i] = MODE == FORWARD ? S(-INFINITY) : in ? lse[(ty * 4 + i) * c.lse.time] * base<S>() : S(-INFINITY);
        sum[i] = MODE == DQ && in ? delta[ty * 4 + i] : S(0);
    }
    const int64_t lo = max(m.some[0].lo - c.k_pos, (int64_t)0) / TILE * TILE,
                  hi = min(m.some[0].hi - c.k_pos, c.k_time);
    for (int64_t j0 = lo; j0 < hi; j0 += TILE) {
        tile t = { c.q_pos + t0, c.k_pos + j0, (int)min((int64_t)TILE, c.k_time - j0), 0, 0, false };
        depths(m, w, t);
        if (t.some == 0) continue;
        const side<T> k = side_at<T>(c.k, b, g, j0, t.cols), v = side_at<T>(c.v, b, g, j0, t.cols);
        S s[4][4], f[4][4];
        scores(m, w, t, q, k, slope, s, f);
        if constexpr (MODE == FORWARD) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                S high = lane_max(max(max(s[i][0], s[i][1]), max(s[i][2], s[i][3])));
                high = max(high, top[i]);
                const S from = high == S(-INFINITY) ? S(0) : high, keep = power(top[i] - from);
                S part = S(0);
#pragma unroll
                for (int j = 0; j < 4; j++) part += s[i][j] = power(s[i][j] - from);
                sum[i] = sum[i] * keep + part;
#pragma unroll
                for (int j = 0; j < 4 * U; j++) acc[i][j] *= keep;
                top[i] = high;
            }
            level_accumulate<U>(m, w, t, s, v, w.v, w.vlevels, first, acc);
        } else {
            S dp[4][4];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) s[i][j] = top[i] == S(-INFINITY) ? S(0) : power(s[i][j] - top[i]);
            level_product(m, w, t, dout, v, w.v, w.vlevels, dp);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if constexpr (MODE == DELTA) sum[i] += s[i][j] * dp[i][j];
                    if constexpr (MODE == DQ) s[i][j] *= (dp[i][j] - sum[i]) * f[i][j];
                }
            if constexpr (MODE == DQ) level_accumulate<U>(m, w, t, s, k, w.qk, w.levels, first, acc);
        }
    }
    if constexpr (MODE == DQ) {
        put_rows<U, T>(c.dq, b, h, t0, rows, first, w.d_qk, m.scale, false, acc);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const bool writes = tx == 0 && ty * 4 + i < rows && first == 0;
            const int64_t t = t0 + ty * 4 + i;
            sum[i] = lane_sum(sum[i]);
            if constexpr (MODE == DELTA) {
                if (writes) ((S *)w.delta)[(b * w.heads + h) * w.delta_head + t] = sum[i];
            } else {
                const S scale = sum[i] > S(0) ? S(1) / sum[i] : S(0);
                if (writes && c.lse.data)
                    ((S *)c.lse.data)[b * c.lse.batch + h * c.lse.head + t * c.lse.time] =
                        sum[i] > S(0) ? (top[i] + logarithm(sum[i])) / base<S>() : S(-INFINITY);
#pragma unroll
                for (int j = 0; j < 4 * U; j++) acc[i][j] *= scale;
            }
        }
        if constexpr (MODE == FORWARD)
            put_rows<U, T>(c.o, b, h, t0, rows, first, w.d_v, (const S *)nullptr, w.add, acc);
    }
}

/* ---- rows are keys: dk and dv, summed over the heads of the group in order ------------------------------------------
 */

template <typename T, int U> __global__ void __launch_bounds__(THREADS, 1) key_rows(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    extern __shared__ __align__(32) unsigned char raw[];
    shared<S> &m = *(shared<S> *)raw;
    const sti_attention_call &c = w.c;
    const int tx = threadIdx.x % 16, first = (int)blockIdx.y * 64 * U;
    const int64_t n = c.batch * w.kv_heads, group = w.heads / w.kv_heads;
    const int64_t b = blockIdx.x % n / w.kv_heads, g = blockIdx.x % n % w.kv_heads;
    const int64_t t0 = blockIdx.x / n * TILE; /* the first keys of a causal mask meet the most queries */
    const int rows = (int)min((int64_t)TILE, c.k_time - t0);
    load_scales(m, w);
    intervals(m, w, c.k_pos + t0, rows, true);

    const side<T> k = side_at<T>(c.k, b, g, t0, rows), v = side_at<T>(c.v, b, g, t0, rows);
    S dk[4][4 * U], dv[4][4 * U];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4 * U; j++) dk[i][j] = dv[i][j] = S(0);
    const int64_t lo = max(m.some[0].lo - c.q_pos, (int64_t)0) / TILE * TILE,
                  hi = min(m.some[0].hi - c.q_pos, c.q_time);
    for (int64_t h = g * group; h < (g + 1) * group; h++)
        for (int64_t i0 = lo; i0 < hi; i0 += TILE) {
            tile t = { c.k_pos + t0, c.q_pos + i0, (int)min((int64_t)TILE, c.q_time - i0), 0, 0, true };
            depths(m, w, t);
            if (t.some == 0) continue;
            __syncthreads();
            for (int i = threadIdx.x; i < t.cols; i += THREADS) {
                m.lse[i] =
                    ((const S *)c.lse.data)[b * c.lse.batch + h * c.lse.head + (i0 + i) * c.lse.time] * base<S>();
                m.delta[i] = ((const S *)w.delta)[(b * w.heads + h) * w.delta_head + i0 + i];
            }
            const side<T> q = side_at<T>(c.q, b, h, i0, t.cols, true), dout = side_at<T>(c.dout, b, h, i0, t.cols);
            S s[4][4], f[4][4], p[4][4];
            scores(m, w, t, k, q, slope_of<S>(w, h), s, f); /* its barriers publish lse and delta */
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int at = tx * 4 + j;
                const S l = at < t.cols ? m.lse[at] : S(-INFINITY);
#pragma unroll
                for (int i = 0; i < 4; i++) s[i][j] = p[i][j] = l == S(-INFINITY) ? S(0) : power(s[i][j] - l);
            }
            if (first < w.d_v) level_accumulate<U>(m, w, t, p, dout, w.v, w.vlevels, first, dv);
            if (first >= w.d_qk) continue;
            level_product(m, w, t, v, dout, w.v, w.vlevels, p);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int at = tx * 4 + j;
                const S d = at < t.cols ? m.delta[at] : S(0);
#pragma unroll
                for (int i = 0; i < 4; i++) s[i][j] *= (p[i][j] - d) * f[i][j];
            }
            level_accumulate<U>(m, w, t, s, q, w.qk, w.levels, first, dk);
        }
    put_rows<U, T>(c.dk, b, g, t0, rows, first, w.d_qk, (const S *)nullptr, false, dk);
    put_rows<U, T>(c.dv, b, g, t0, rows, first, w.d_v, (const S *)nullptr, w.add, dv);
}

/* delta = do . o, one warp a row */
template <typename T> __global__ void __launch_bounds__(THREADS) row_dots(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    const sti_attention_call &c = w.c;
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32, t = row % c.q_time,
                  bh = row / c.q_time;
    if (bh >= c.batch * w.heads) return;
    const int64_t b = bh / w.heads, h = bh % w.heads;
    const T *o = (const T *)c.o.data + b * c.o.batch + h * c.o.head + t * c.o.time;
    const T *d = (const T *)c.dout.data + b * c.dout.batch + h * c.dout.head + t * c.dout.time;
    S sum = S(0);
    for (int i = threadIdx.x % 32; i < w.d_v; i += 32) sum += S(sti_get(o[i])) * S(sti_get(d[i]));
    sum = sti_warp_sum(sum);
    if (threadIdx.x % 32 == 0) ((S *)w.delta)[bh * w.delta_head + t] = sum;
}

/* ---- launches -----------------------------------------------------------------------------------------------------
 */

template <typename T> size_t shared_bytes(int64_t d_qk)
{
    typedef sti_sum_t<T> S;
    return sizeof(shared<S>) + (size_t)d_qk * sizeof(S);
}

int64_t tiles_of(int64_t time)
{
    return (time + TILE - 1) / TILE;
}

template <typename T> void *moved(void *data, int64_t elements)
{
    return data ? (T *)data + elements : nullptr;
}

template <typename T> job job_of(const sti_attention_shape *s, const sti_attention_call *c, int part)
{
    typedef sti_sum_t<T> S;
    job w = {};
    const sti_attention_part *p = &s->part[part];
    w.part = *p;
    w.causal = s->causal;
    w.alibi = s->alibi;
    w.levels = p->levels;
    w.heads = s->heads;
    w.kv_heads = s->kv_heads;
    w.add = part > 0;
    for (int l = 0; l < p->levels; l++) {
        w.qk[l + 1] = w.qk[l] + p->level[l].rank;
        w.v[l + 1] = w.v[l] + p->level[l].vrank;
        if (p->level[l].vrank > 0) w.vlevels = l + 1;
        if (l > 0 && p->gain[l + 1] != p->gain[l]) w.varies = 1;
    }
    w.d_qk = w.qk[w.levels];
    w.d_v = w.v[w.levels];
    w.c = *c;
    w.c.q.data = moved<T>(c->q.data, p->offset);
    w.c.k.data = moved<T>(c->k.data, p->offset);
    w.c.dq.data = moved<T>(c->dq.data, p->offset);
    w.c.dk.data = moved<T>(c->dk.data, p->offset);
    w.c.lse.data = moved<S>(c->lse.data, part * c->lse_part);
    w.delta = (S *)c->work + part * c->batch * s->heads * c->q_time;
    w.delta_head = c->q_time;
    return w;
}

template <typename T>
void launch(const strata_context *ctx, void (*kernel)(job), const char *name, const job &w, int64_t blocks, int slabs)
{
    const size_t bytes = shared_bytes<T>(w.d_qk);
    sti_cuda_note(sti_cuda_of(ctx),
                  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), name);
    kernel<<<dim3((unsigned)blocks, (unsigned)slabs), THREADS, bytes, sti_stream(ctx)>>>(w);
    sti_launched(ctx, name);
}

/* Output columns of a block: 64 or 128; further columns score again. */
template <typename T, int MODE>
void launch_queries(const strata_context *ctx, const job &w, int width, const char *name)
{
    const int64_t blocks = w.c.batch * w.heads * tiles_of(w.c.q_time);
    constexpr int wide = MODE == DELTA || sizeof(T) == 8 ? 1 : 2;
    if (width <= 64)
        launch<T>(ctx, query_rows<T, MODE, 1>, name, w, blocks, 1);
    else
        launch<T>(ctx, query_rows<T, MODE, wide>, name, w, blocks, (width + 64 * wide - 1) / (64 * wide));
}

template <typename T> void forward(const strata_context *ctx, const sti_attention_shape *s, const sti_attention_call *c)
{
    for (int part = 0; part < s->parts; part++) {
        const job w = job_of<T>(s, c, part);
        launch_queries<T, FORWARD>(ctx, w, w.d_v, "attention forward");
    }
}

template <typename T>
void backward(const strata_context *ctx, const sti_attention_shape *s, const sti_attention_call *c)
{
    for (int part = 0; part < s->parts; part++) {
        const job w = job_of<T>(s, c, part);
        const int64_t rows = c->batch * s->heads * c->q_time;
        const int width = w.d_qk > w.d_v ? w.d_qk : w.d_v;
        const int64_t blocks = c->batch * s->kv_heads * tiles_of(c->k_time);
        if (s->parts == 1) {
            row_dots<T><<<(unsigned)((rows + THREADS / 32 - 1) / (THREADS / 32)), THREADS, 0, sti_stream(ctx)>>>(w);
            sti_launched(ctx, "attention delta");
        } else /* o is a sum: each softmax needs its own */
            launch_queries<T, DELTA>(ctx, w, 1, "attention delta");
        launch_queries<T, DQ>(ctx, w, w.d_qk, "attention dq");
        constexpr int wide = sizeof(T) == 8 ? 1 : 2;
        if (width <= 64)
            launch<T>(ctx, key_rows<T, 1>, "attention dk dv", w, blocks, 1);
        else
            launch<T>(ctx, key_rows<T, wide>, "attention dk dv", w, blocks, (width + 64 * wide - 1) / (64 * wide));
    }
}

} // namespace

extern "C" size_t sti_attention_cuda_work(const sti_attention_shape *s, int32_t dtype, int64_t batch, int64_t q_time)
{
    return (size_t)(s->parts * batch * s->heads * q_time) * (dtype == STRATA_F64 ? sizeof(double) : sizeof(float));
}

extern "C" int64_t sti_attention_cuda_limit(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype)
{
    const size_t e = dtype == STRATA_F64 ? sizeof(double) : sizeof(float);
    const size_t fixed = dtype == STRATA_F64 ? sizeof(shared<double>) : sizeof(shared<float>);
    const int64_t most = (int64_t)((sti_cuda_of(ctx)->smem_optin - fixed) / e);
    return s->d_qk <= most ? 0 : most;
}

extern "C" void sti_attention_cuda_forward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                           const sti_attention_call *c)
{
    STI_CUDA_TYPES(dtype, forward, ctx, s, c);
}

extern "C" void sti_attention_cuda_backward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                            const sti_attention_call *c)
{
    STI_CUDA_TYPES(dtype, backward, ctx, s, c);
}
