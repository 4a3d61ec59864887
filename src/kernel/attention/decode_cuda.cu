/* One token at a time over the level-separated cache, and filling it. The layout is the CPU's (keys column by column,
 * values row by row) with rings of whole vectors of positions, so every read is 16 bytes wide and contiguous across
 * threads whatever the ranks.
 *
 * A block owns a stretch of one (sequence, key head) and all query heads of its group, HEADS at a time. It walks tiles
 * of positions: a thread scores its own positions (a prefix of levels, as deep as they reach), the block agrees on a
 * maximum, then threads of a row group add up the values. Stretches leave unnormalised outputs that merge joins in
 * order. The block that holds the new token writes it to the cache first; nobody else reads that position. */
#include "backend/cuda/cuda.cuh"
#include "kernel/attention/attention_cuda.h"

#include <math.h>

namespace
{

enum { THREADS = 64, WARPS = THREADS / 32, LEVELS = STI_ATTENTION_LEVELS, SEQUENCES = 256, UNROLL = 8, WAVES = 12 };

struct level { /* of one softmax */
    int32_t rank, at, vrank, vat;
    int64_t slots, vslots, lo; /* lo: distance of the first key, -1: everything; or the block size */
    size_t keys, values;       /* bytes from the start of a cache */
    double scale;
};

struct softmax {
    level l[LEVELS];
    double gain[LEVELS + 1];
    int32_t levels, vlevels, varies, blocks, offset, d_qk;
};

struct job {
    softmax s;
    int32_t part, parts, splits, d_v, alibi;
    int64_t heads, kv_heads;
    char *cache;
    size_t stride;
    sti_attention_array q, k, v, o;
    void *work;
    int64_t pos[SEQUENCES];
};

/* First position that level i covers for a query at t. */
__device__ __forceinline__ int64_t first_key(const softmax &s, int i, int64_t t)
{
    int64_t lo = 0;
    if (s.l[0].lo >= 0) lo = t - s.l[0].lo + 1;
    if (i > 0 && s.l[i].lo >= 0) lo = max(lo, s.blocks ? t / s.l[i].lo * s.l[i].lo : t - s.l[i].lo + 1);
    return max(lo, (int64_t)0);
}

__device__ __forceinline__ int64_t slot_of(int64_t p, int64_t slots)
{
    if (p < slots) return p;
    if (p < (int64_t)1 << 31) return (uint32_t)p % (uint32_t)slots;
    return p % slots;
}

/* n neighbours, from the second-level cache: the new token was written by this block. */
template <typename T, int n> __device__ __forceinline__ sti_vec<T, n> fetch(const T *p)
{
    constexpr int bytes = sizeof(T) * n;
    sti_vec<T, n> y;
    if constexpr (bytes == 16)
        *(uint4 *)&y = __ldcg((const uint4 *)p);
    else if constexpr (bytes == 8)
        *(uint2 *)&y = __ldcg((const uint2 *)p);
    else if constexpr (bytes == 4)
        *(unsigned *)&y = __ldcg((const unsigned *)p);
    else
        *(unsigned short *)&y = __ldcg((const unsigned short *)p);
    return y;
}

__device__ __forceinline__ float power(float x)
{
    return exp2f(x);
}
__device__ __forceinline__ double power(double x)
{
    return exp(x);
}
template <typename S> __device__ __forceinline__ S base()
{
    return sizeof(S) == 4 ? S(1.4426950408889634) : S(1);
}

template <typename T> __device__ void write_token(const job &w, int64_t b, int64_t g, int64_t t)
{
    char *const cache = w.cache + (size_t)b * w.stride;
    const T *k = (const T *)w.k.data + b * w.k.batch + g * w.k.head + w.s.offset;
    const T *v = (const T *)w.v.data + b * w.v.batch + g * w.v.head;
    for (int i = 0; i < w.s.levels; i++) {
        const level &l = w.s.l[i];
        T *keys = (T *)(cache + l.keys) + g * l.rank * l.slots + slot_of(t, l.slots);
        for (int c = threadIdx.x; c < l.rank; c += THREADS) keys[c * l.slots] = k[l.at + c];
        if (i >= w.s.vlevels) continue;
        T *values = (T *)(cache + l.values) + (g * l.vslots + slot_of(t, l.vslots)) * l.vrank;
        for (int c = threadIdx.x; c < l.vrank; c += THREADS) values[c] = v[l.vat + c];
    }
    __syncthreads();
}

template <typename S, int HEADS> struct shared {
    S *q;    /* (column, head), scaled */
    S *p;    /* (position, head) */
    S *o;    /* (warp, head, column) */
    S *high; /* (warp, head) */
};

/* acc[h][e] += q . keys for the vector of positions whose first slot `keys` points at. */
template <typename T, typename S, int HEADS, int V>
__device__ __forceinline__ void score_columns(const T *keys, int64_t slots, int rank, const S *q, S acc[HEADS][V])
{
    int c = 0;
    for (; c + UNROLL <= rank; c += UNROLL) {
        sti_vec<T, V> x[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) x[u] = fetch<T, V>(keys + (c + u) * slots);
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                const S y = q[(c + u) * HEADS + h];
#pragma unroll
                for (int e = 0; e < V; e++) acc[h][e] += y * S(sti_get(x[u].x[e]));
            }
    }
    for (; c < rank; c++) {
        const sti_vec<T, V> x = fetch<T, V>(keys + c * slots);
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int e = 0; e < V; e++) acc[h][e] += q[c * HEADS + h] * S(sti_get(x.x[e]));
    }
}

/* o += P v for the positions [from, to) of the tile (P of position 0 at p) and `rank` columns; W columns a thread. */
template <typename T, typename S, int HEADS, int W>
__device__ __forceinline__ void value_rows(const T *values, int64_t slots, int64_t slot, int rank, int from, int to,
                                           const S *p, S *o, int d_v)
{
    const int warp = threadIdx.x / 32;
    for (int first = 0; first < rank; first += 32 * W) {
        const int width = min(rank - first, 32 * W);
        int lanes = 1;
        while (lanes * W < width) lanes *= 2;
        const int group = THREADS / lanes, mine = threadIdx.x / lanes, column = first + threadIdx.x % lanes * W;
        S acc[HEADS][W];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int e = 0; e < W; e++) acc[h][e] = S(0);
        if (column < rank)
            for (int n = from + mine; n < to; n += group * UNROLL) {
                sti_vec<T, W> x[UNROLL];
#pragma unroll
                for (int u = 0; u < UNROLL; u++) {
                    int64_t at = slot + (n - from) + u * group;
                    if (at >= slots) at -= slots;
                    if (n + u * group < to) x[u] = fetch<T, W>(values + at * rank + column);
                }
#pragma unroll
                for (int u = 0; u < UNROLL; u++) {
                    if (n + u * group >= to) continue;
#pragma unroll
                    for (int h = 0; h < HEADS; h++) {
                        const S y = p[(n + u * group) * HEADS + h];
#pragma unroll
                        for (int e = 0; e < W; e++) acc[h][e] += y * S(sti_get(x[u].x[e]));
                    }
                }
            }
        for (int d = lanes; d < 32; d *= 2)
#pragma unroll
            for (int h = 0; h < HEADS; h++)
#pragma unroll
                for (int e = 0; e < W; e++) acc[h][e] += __shfl_xor_sync(0xffffffffu, acc[h][e], d);
        if (threadIdx.x % 32 < lanes && column < rank)
#pragma unroll
            for (int h = 0; h < HEADS; h++)
#pragma unroll
                for (int e = 0; e < W; e++) o[(warp * HEADS + h) * d_v + column + e] += acc[h][e];
    }
}

/* The widest vector that divides the rank, up to 16 bytes. */
template <typename T, typename S, int HEADS>
__device__ __forceinline__ void value_level(const T *values, int64_t slots, int64_t slot, int rank, int from, int to,
                                            const S *p, S *o, int d_v)
{
    constexpr int V = 16 / sizeof(T);
    if (rank % V == 0)
        value_rows<T, S, HEADS, V>(values, slots, slot, rank, from, to, p, o, d_v);
    else if (rank % 2 == 0 && V > 2)
        value_rows<T, S, HEADS, V == 8 ? 2 : V / 2>(values, slots, slot, rank, from, to, p, o, d_v);
    else
        value_rows<T, S, HEADS, 1>(values, slots, slot, rank, from, to, p, o, d_v);
}

/* Heads [h0, h0 + count) of a group over positions [from, end): partial outputs to work. */
template <typename T, int HEADS>
__device__ void attend_heads(const job &w, const shared<sti_sum_t<T>, HEADS> &m, int64_t b, int64_t g, int64_t h0,
                             int count, int64_t t, int64_t from, int64_t end, const int64_t *lo)
{
    typedef sti_sum_t<T> S;
    constexpr int V = 16 / sizeof(T), SPAN = THREADS * V;
    const softmax &s = w.s;
    const char *const cache = w.cache + (size_t)b * w.stride;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    S top[HEADS], sum[HEADS];
    for (int i = 0; i < s.levels; i++)
        for (int c = threadIdx.x; c < s.l[i].rank * HEADS; c += THREADS) {
            const int h = min(c % HEADS, count - 1), column = s.l[i].at + c / HEADS;
            const T *q = (const T *)w.q.data + b * w.q.batch + (h0 + h) * w.q.head + s.offset;
            m.q[column * HEADS + c % HEADS] = S(sti_get(q[column])) * S(s.l[i].scale);
        }
    for (int c = threadIdx.x; c < WARPS * HEADS * w.d_v; c += THREADS) m.o[c] = S(0);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        top[h] = S(-INFINITY);
        sum[h] = S(0);
    }
    __syncthreads();
    for (int64_t tile = from / SPAN * SPAN; tile < end; tile += SPAN) {
        const int64_t p0 = tile + threadIdx.x * V;
        S acc[HEADS][V];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int e = 0; e < V; e++) acc[h][e] = S(0);
        for (int i = s.levels; i-- > 0;) { /* deepest first; what lies before a level is cleared behind it */
            if (tile + SPAN <= lo[i]) continue;
            const level &l = s.l[i];
            if (p0 + V > lo[i] && p0 < end)
                score_columns<T, S, HEADS, V>((const T *)(cache + l.keys) + g * l.rank * l.slots + slot_of(p0, l.slots),
                                              l.slots, l.rank, m.q + l.at * HEADS, acc);
            if (i > 0 && p0 < lo[i])
#pragma unroll
                for (int e = 0; e < V; e++)
#pragma unroll
                    for (int h = 0; h < HEADS; h++) acc[h][e] = p0 + e < lo[i] ? S(0) : acc[h][e];
        }
        S high[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) high[h] = S(-INFINITY);
#pragma unroll
        for (int e = 0; e < V; e++) {
            const int64_t p = p0 + e;
            const bool in = p >= lo[0] && p >= from && p < end;
            S f = S(s.gain[1]);
            for (int i = 1; s.varies && i < s.levels; i++)
                if (p >= lo[i]) f = S(s.gain[i + 1]);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                acc[h][e] *= f * base<S>();
                if (w.alibi) /* -slope (t - p) */
                    acc[h][e] -= S(exp2(-8.0 * (double)(h0 + h + 1) / (double)w.heads)) * base<S>() * S(t - p);
                if (!in) acc[h][e] = S(-INFINITY);
                high[h] = max(high[h], acc[h][e]);
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            high[h] = sti_warp_max(high[h]);
            if (lane == 0) m.high[warp * HEADS + h] = high[h];
        }
        __syncthreads(); /* also: the values of the tile before are done with p */
        S keep[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            high[h] = top[h];
#pragma unroll
            for (int i = 0; i < WARPS; i++) high[h] = max(high[h], m.high[i * HEADS + h]);
            const S zero = high[h] == S(-INFINITY) ? S(0) : high[h];
            keep[h] = power(top[h] - zero);
            sum[h] *= keep[h];
            top[h] = high[h];
#pragma unroll
            for (int e = 0; e < V; e++) sum[h] += acc[h][e] = power(acc[h][e] - zero);
        }
#pragma unroll
        for (int e = 0; e < V; e++)
#pragma unroll
            for (int h = 0; h < HEADS; h++) m.p[(threadIdx.x * V + e) * HEADS + h] = acc[h][e];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            for (int c = lane; c < w.d_v; c += 32) m.o[(warp * HEADS + h) * w.d_v + c] *= keep[h];
        __syncthreads();
        for (int i = 0; i < s.vlevels; i++) {
            const int64_t first = max(max(lo[i], from), tile), last = min(end, tile + SPAN);
            const level &l = s.l[i];
            if (first >= last || l.vrank == 0) continue;
            value_level<T, S, HEADS>((const T *)(cache + l.values) + g * l.vslots * l.vrank, l.vslots,
                                     slot_of(first, l.vslots), l.vrank, (int)(first - tile), (int)(last - tile), m.p,
                                     m.o + l.vat, w.d_v);
            __syncwarp();
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        sum[h] = sti_warp_sum(sum[h]);
        __syncthreads();
        if (lane == 0) m.high[warp] = sum[h];
        __syncthreads();
        sum[h] = S(0);
#pragma unroll
        for (int i = 0; i < WARPS; i++) sum[h] += m.high[i];
        if (h >= count) continue;
        const int64_t row = ((b * w.heads + h0 + h) * w.parts + w.part) * w.splits + blockIdx.x % w.splits;
        S *out = (S *)w.work + row * (w.d_v + 2);
        for (int c = threadIdx.x; c < w.d_v; c += THREADS) {
            S x = S(0);
#pragma unroll
            for (int i = 0; i < WARPS; i++) x += m.o[(i * HEADS + h) * w.d_v + c];
            out[c] = x;
        }
        if (threadIdx.x == 0) {
            out[w.d_v] = top[h];
            out[w.d_v + 1] = sum[h];
        }
    }
    __syncthreads();
}

template <typename T, int HEADS> __global__ void __launch_bounds__(THREADS) attend(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    constexpr int V = 16 / sizeof(T), SPAN = THREADS * V;
    extern __shared__ __align__(32) unsigned char raw[];
    __shared__ int64_t lo[LEVELS];
    shared<S, HEADS> m;
    m.p = (S *)raw;
    m.o = m.p + SPAN * HEADS;
    m.q = m.o + WARPS * HEADS * w.d_v;
    m.high = m.q + w.s.d_qk * HEADS;
    const int64_t split = blockIdx.x % w.splits, pair = blockIdx.x / w.splits;
    const int64_t b = pair / w.kv_heads, g = pair % w.kv_heads, t = w.pos[b], group = w.heads / w.kv_heads;
    for (int i = threadIdx.x; i < w.s.levels; i += THREADS) lo[i] = first_key(w.s, i, t);
    __syncthreads();
    const int64_t start = lo[0] / SPAN, tiles = t / SPAN + 1 - start, each = (tiles + w.splits - 1) / w.splits;
    const int64_t from = max((start + split * each) * SPAN, lo[0]),
                  end = min((start + (split + 1) * each) * SPAN, t + 1);
    if (from <= t && t < end) write_token<T>(w, b, g, t);
    for (int64_t h = 0; h < group; h += HEADS)
        attend_heads<T, HEADS>(w, m, b, g, g * group + h, (int)min((int64_t)HEADS, group - h), t, from, max(from, end),
                               lo);
}

/* o = the stretches of each softmax joined in order; the softmaxes add up. A block for a row. */
template <typename T> __global__ void __launch_bounds__(THREADS) merge(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    const int64_t b = blockIdx.x / w.heads, h = blockIdx.x % w.heads;
    const int stride = w.d_v + 2;
    const S *work = (const S *)w.work + (int64_t)blockIdx.x * w.parts * w.splits * stride;
    T *o = (T *)w.o.data + b * w.o.batch + h * w.o.head;
    for (int c = threadIdx.x; c < w.d_v; c += THREADS) {
        S out = S(0);
        for (int part = 0; part < w.parts; part++) {
            const S *x = work + part * w.splits * stride;
            S top = S(-INFINITY), sum = S(0), y = S(0);
            for (int n = 0; n < w.splits; n++) top = max(top, x[n * stride + w.d_v]);
            for (int n = 0; n < w.splits; n++) {
                const S f = power(x[n * stride + w.d_v] - top);
                sum += f * x[n * stride + w.d_v + 1];
                y += f * x[n * stride + c];
            }
            out += y / sum;
        }
        o[c] = sti_put<T>(out);
    }
}

/* Tokens pos + first … of one sequence: keys, a thread for a (column, token), tokens fastest; then values. */
template <typename T>
__global__ void append_keys(const T *k, int64_t k_head, int64_t k_time, T *to, int64_t rank, int64_t slots, int64_t pos,
                            int64_t first, int64_t n, int64_t count)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t t = first + i % (n - first), c = i / (n - first) % rank, g = i / (n - first) / rank;
        to[(g * rank + c) * slots + (pos + t) % slots] = k[g * k_head + t * k_time + c];
    }
}

template <typename T>
__global__ void append_values(const T *v, int64_t v_head, int64_t v_time, T *to, int64_t rank, int64_t slots,
                              int64_t pos, int64_t first, int64_t n, int64_t count)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t c = i % rank, t = first + i / rank % (n - first), g = i / rank / (n - first);
        to[(g * slots + (pos + t) % slots) * rank + c] = v[g * v_head + t * v_time + c];
    }
}

/* ---- launches -----------------------------------------------------------------------------------------------------
 */

int columns(const sti_attention_part *p, int values)
{
    int n = 0;
    for (int l = 0; l < p->levels; l++) n += values ? p->level[l].vrank : p->level[l].rank;
    return n;
}

softmax softmax_of(const sti_attention_part *p, const sti_cache_layout *l, int part)
{
    softmax s = {};
    s.levels = p->levels;
    s.blocks = p->blocks;
    s.offset = p->offset;
    for (int i = 0, at = 0, vat = 0; i < p->levels; i++) {
        const sti_attention_level *a = &p->level[i];
        s.l[i] = level{ a->rank,
                        at,
                        a->vrank,
                        vat,
                        l->k[part][i].slots,
                        l->v[i].slots,
                        a->reach < STI_NEVER ? a->reach : -1,
                        l->k[part][i].offset,
                        l->v[i].offset,
                        a->scale };
        at += a->rank;
        vat += a->vrank;
        s.gain[i + 1] = p->gain[i + 1];
        if (i > 0 && p->gain[i + 1] != p->gain[i]) s.varies = 1;
        if (a->vrank > 0) s.vlevels = i + 1;
    }
    s.d_qk = columns(p, 0);
    return s;
}

template <typename T, int HEADS> size_t shared_bytes(int64_t d_qk, int64_t d_v)
{
    constexpr int SPAN = THREADS * 16 / (int)sizeof(T);
    return (size_t)((SPAN + WARPS * d_v + d_qk + WARPS) * HEADS) * sizeof(sti_sum_t<T>);
}

template <typename T, int HEADS> void launch(const strata_context *ctx, const job &w, unsigned blocks)
{
    const size_t bytes = shared_bytes<T, HEADS>(w.s.d_qk, w.d_v);
    if (bytes > 48 << 10)
        sti_cuda_note(sti_cuda_of(ctx),
                      cudaFuncSetAttribute(attend<T, HEADS>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                      "attention step");
    attend<T, HEADS><<<blocks, THREADS, bytes, sti_stream(ctx)>>>(w);
    sti_launched(ctx, "attention step");
}

/* Heads that go together: as many as the group has, up to 8, and as fit a good share of the shared memory. */
template <typename T> void launch_group(const strata_context *ctx, const job &w, unsigned blocks)
{
    const size_t most = sti_cuda_of(ctx)->smem_optin / 2;
    const int64_t group = w.heads / w.kv_heads;
    if constexpr (sizeof(T) < 8) {
        if (group > 4 && shared_bytes<T, 8>(w.s.d_qk, w.d_v) <= most) return launch<T, 8>(ctx, w, blocks);
        if (group > 1 && shared_bytes<T, 4>(w.s.d_qk, w.d_v) <= most) return launch<T, 4>(ctx, w, blocks);
    }
    launch<T, 1>(ctx, w, blocks);
}

/* Stretches that a cache is cut into: WAVES blocks for every multiprocessor, no stretch shorter than a tile. */
int64_t target(const strata_context *ctx)
{
    return (int64_t)sti_cuda_of(ctx)->sms * WAVES;
}

template <typename T>
void step(const strata_context *ctx, const sti_attention_shape *s, const sti_cache_layout *l, const sti_cuda_steps *c)
{
    constexpr int SPAN = THREADS * 16 / (int)sizeof(T);
    for (int64_t b0 = 0; b0 < c->batch; b0 += SEQUENCES) {
        const int64_t batch = c->batch - b0 < SEQUENCES ? c->batch - b0 : (int64_t)SEQUENCES;
        const int64_t pairs = batch * s->kv_heads;
        int64_t most = 0, splits = (target(ctx) + pairs - 1) / pairs;
        job w = {};
        w.parts = s->parts;
        w.d_v = (int32_t)s->d_v;
        w.alibi = s->alibi;
        w.heads = s->heads;
        w.kv_heads = s->kv_heads;
        w.cache = (char *)c->cache + (size_t)b0 * c->stride;
        w.stride = c->stride;
        w.work = c->work;
        w.q = c->q;
        w.k = c->k;
        w.v = c->v;
        w.o = c->o;
        w.q.data = (T *)c->q.data + b0 * c->q.batch;
        w.k.data = (T *)c->k.data + b0 * c->k.batch;
        w.v.data = (T *)c->v.data + b0 * c->v.batch;
        w.o.data = (T *)c->o.data + b0 * c->o.batch;
        for (int64_t b = 0; b < batch; b++) {
            w.pos[b] = c->pos[b0 + b];
            most = w.pos[b] > most ? w.pos[b] : most;
        }
        const int64_t tiles = most / SPAN + 1;
        w.splits = (int32_t)(splits < tiles ? splits : tiles);
        for (w.part = 0; w.part < s->parts; w.part++) {
            w.s = softmax_of(&s->part[w.part], l, w.part);
            launch_group<T>(ctx, w, (unsigned)(pairs * w.splits));
        }
        merge<T><<<(unsigned)(batch * s->heads), THREADS, 0, sti_stream(ctx)>>>(w);
        sti_launched(ctx, "attention merge");
    }
}

template <typename T>
void append(const strata_context *ctx, const sti_attention_shape *s, const sti_cache_layout *l, void *cache,
            int64_t pos, int64_t n, const sti_attention_array *k, const sti_attention_array *v)
{
    for (int part = 0; n > 0 && part < s->parts; part++) {
        const softmax x = softmax_of(&s->part[part], l, part);
        for (int i = 0; i < x.levels; i++) {
            const level &a = x.l[i];
            const int64_t first = n > a.slots ? n - a.slots : 0, count = s->kv_heads * a.rank * (n - first);
            append_keys<T><<<sti_blocks(ctx, count, 256, 16), 256, 0, sti_stream(ctx)>>>(
                (const T *)k->data + x.offset + a.at, k->head, k->time, (T *)((char *)cache + a.keys), a.rank, a.slots,
                pos, first, n, count);
            if (part > 0 || i >= x.vlevels || a.vrank == 0) continue;
            const int64_t vfirst = n > a.vslots ? n - a.vslots : 0, vcount = s->kv_heads * a.vrank * (n - vfirst);
            append_values<T><<<sti_blocks(ctx, vcount, 256, 16), 256, 0, sti_stream(ctx)>>>(
                (const T *)v->data + a.vat, v->head, v->time, (T *)((char *)cache + a.values), a.vrank, a.vslots, pos,
                vfirst, n, vcount);
        }
    }
    sti_launched(ctx, "attention append");
}

} // namespace

extern "C" size_t sti_attention_cuda_step_work(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                               int64_t batch)
{
    const int64_t pairs = (batch < SEQUENCES ? batch : (int64_t)SEQUENCES) * s->kv_heads + target(ctx);
    const size_t e = dtype == STRATA_F64 ? sizeof(double) : sizeof(float);
    return (size_t)(pairs * (s->heads / s->kv_heads) * s->parts * (s->d_v + 2)) * e;
}

extern "C" void sti_attention_cuda_append(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                          const sti_cache_layout *l, void *cache, int64_t pos, int64_t n,
                                          const sti_attention_array *k, const sti_attention_array *v)
{
    STI_CUDA_TYPES(dtype, append, ctx, s, l, cache, pos, n, k, v);
}

extern "C" void sti_attention_cuda_step(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                        const sti_cache_layout *l, const sti_cuda_steps *c)
{
    STI_CUDA_TYPES(dtype, step, ctx, s, l, c);
}
