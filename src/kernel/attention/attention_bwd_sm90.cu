/* Attention backward on Hopper: bf16 arrays, f32 sums, gradients that repeat bit for bit.
 *
 * A block of threads owns 128 keys of one key head and walks the tiles of queries that see them, for every query head
 * of the group: dk and dv stay in registers, and each tile's share of dq is added to an f32 array in an order that a
 * counter per query tile enforces (from the last key tile to the first, which is also the order in which blocks start
 * and meet a tile, so that nobody waits long). Three kernels: delta (also log2 scores and, when levels have scales of
 * their own, scaled queries), the products, and rounding dq.
 *
 * Levels. Pairs of depth c need the first R_c columns of q and k and V_c of v. A tile whose pairs all have one depth is
 * one visit with these widths; any other tile is visited once for each depth in it, with the pairs of other depths
 * masked, so that every product is a plain one over a prefix. TMA clips q and dout to the prefix (a map per depth),
 * which fills the rest of a step of 16 columns with zeros; dq's columns beyond it are cleared. Window, distance and
 * causal masks are the same thing: intervals of keys per query. */

#include "backend/cuda/cuda.cuh"
#include "backend/cuda/tma.cuh"
#include "backend/cuda/wgmma.cuh"
#include "kernel/attention/attention_sm90.h"

namespace
{

enum {
    KEYS = 128,      /* per block: 64 for each of two consumer warpgroups */
    CONSUMERS = 256, /* threads; then a warpgroup for dq, and one whose warp 0 loads and whose warp 1 adds to dq */
    THREADS = 512,
    MOST = 8, /* levels */
    Q_STAGES = 3,
    DO_STAGES = 2,
    RING = 16, /* visits that may be known at once: more than are in flight */
    BAR_K = 1,
    BAR_END = 2, /* and 3 */
    BAR_TURN = 4 /* and 5 */
};
constexpr int32_t FAR = 1 << 30; /* beyond every position */
constexpr float LOG2E = 1.4426950408889634f;

/* Rows of a tile of queries: the tile of dq and the accumulators fill the same space for both widths. */
template <int D> constexpr int TILE_ROWS = D == 64 ? 128 : 64;

struct level_cost {              /* pairs of one depth */
    int32_t rank, steps, vsteps; /* columns of q and k, and in steps of 16 as computed; of v */
    float scale, gain;           /* exponent = scale * q.k - lse, both in base 2 */
};

struct arguments {
    CUtensorMap q[MOST], dout[MOST], k, v, dk, dv;
    const float *lse, *delta; /* (batch, heads, rows): base 2; +inf and 0 beyond the end */
    float *dq;                /* sums, in the order of fragments */
    int32_t *done;            /* (batch, heads, tiles): key tiles that were added */
    int32_t *ticket;
    int32_t heads, kv_heads, group, levels, blocks, causal;
    int32_t q_time, k_time, q_tiles, k_tiles, rows, q_pos, k_pos;
    int32_t reach[MOST];
    level_cost depth[MOST + 1]; /* from 1 */
    float dk_scale;
};

/* ---- intervals ----------------------------------------------------------------------------------------------------
 */

struct interval {
    int32_t lo, hi;
};

/* Keys that level l (from 0) joins with the query at position p; both ends grow with p. */
__device__ __forceinline__ interval keys_of(const arguments &a, int l, int32_t p)
{
    interval r = { -FAR, FAR };
    const int32_t first = a.reach[0];
    if (first < FAR) r = { p - first + 1, p + first };
    if (a.causal) r.hi = p + 1;
    if (l == 0 || a.reach[l] >= FAR) return r;
    const int32_t reach = a.reach[l], block = a.blocks ? p / reach * reach : p - reach + 1;
    return { max(r.lo, block), min(r.hi, a.blocks ? block + reach : p + reach) };
}

/* ---- one visit ----------------------------------------------------------------------------------------------------
 */

struct visit {
    int32_t kind; /* widths in quarters of D, q and k's + 4 (v's - 1); 0: the end */
    int32_t rank;
    int32_t masked;
    float scale, gain;
    int32_t counter, order; /* of dq's tile; order: additions that come first */
    int32_t last;           /* of this tile */
    int64_t dq;             /* first element of dq's tile */
};

template <int D> struct shared {
    static constexpr int ROWS = TILE_ROWS<D>, PANELS = D / 64;
    static constexpr uint32_t KV = KEYS * D * 2, TILE = ROWS * D * 2, DS = KEYS * ROWS * 2, DQ = 64 * 64 * 4;
    static constexpr uint32_t k = 0, v = k + KV, q = v + KV, dout = q + Q_STAGES * TILE, ds = dout + DO_STAGES * TILE,
                              dq = ds + 2 * DS, lse = dq + 2 * DQ, delta = lse + Q_STAGES * ROWS * 4,
                              bounds = delta + Q_STAGES * ROWS * 4, ring = bounds + Q_STAGES * ROWS * 16,
                              bars = ring + RING * sizeof(visit), bytes = bars + 20 * 8 + 1024;
};
enum {
    B_KV,
    B_Q,
    B_Q_FREE = B_Q + Q_STAGES,
    B_DO = B_Q_FREE + Q_STAGES,
    B_DO_FREE = B_DO + DO_STAGES,
    B_DQ = B_DO_FREE + DO_STAGES,
    B_DQ_FREE = B_DQ + 2,
    B_DS = B_DQ_FREE + 2,
    B_DS_FREE = B_DS + 2,
    B_COUNT = B_DS_FREE + 2
};

__device__ __forceinline__ void bulk_load(uint32_t dst, const void *src, uint32_t bytes, uint32_t bar)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(dst),
                 "l"(src), "r"(bytes), "r"(bar)
                 : "memory");
}
__device__ __forceinline__ void bulk_add(float *dst, uint32_t src, uint32_t bytes)
{
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(dst), "r"(src),
                 "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- producer: one warp enumerates visits and loads ----------------------------------------------------------------
 */

template <int D>
__device__ __forceinline__ void produce(const arguments &a, unsigned char *mem, uint32_t base, int32_t pair, int32_t n)
{
    typedef shared<D> S;
    constexpr int ROWS = S::ROWS;
    const int lane = threadIdx.x & 31, batch = pair / a.kv_heads, kv_head = pair % a.kv_heads;
    const uint32_t bars = base + S::bars;
    visit *ring = (visit *)(mem + S::ring);
    if (lane == 0) {
        sti_mbar_expect(bars + 8 * B_KV, 2 * S::KV);
        for (int p = 0; p < S::PANELS; p++) {
            sti_tma_load(base + S::k + p * KEYS * 128, &a.k, bars + 8 * B_KV, 64 * p, n * KEYS, kv_head, batch);
            sti_tma_load(base + S::v + p * KEYS * 128, &a.v, bars + 8 * B_KV, 64 * p, n * KEYS, kv_head, batch);
        }
    }
    const int32_t key0 = a.k_pos + n * KEYS, key1 = min(key0 + KEYS, a.k_pos + a.k_time) - 1;
    const bool clipped = key1 - key0 + 1 < KEYS;
    /* This lane's level: the blocks of the first and the last key, or a distance. A division for every tile would make
     * this warp the slowest. */
    int32_t block0 = -FAR, block1 = -FAR, reach = 2 * (FAR - 1), far = FAR;
    if (lane > 0 && lane < a.levels && a.reach[lane] < FAR) {
        if (a.blocks) {
            reach = a.reach[lane];
            block0 = key0 / reach * reach, block1 = key1 / reach * reach;
        } else
            far = a.reach[lane];
    }
    int32_t t = 0;
    for (int h = kv_head * a.group; h < (kv_head + 1) * a.group; h++)
        for (int m = a.causal ? max(0, (key0 - a.q_pos) / ROWS) : 0; m < a.q_tiles; m++) {
            const int32_t p0 = a.q_pos + m * ROWS, p1 = min(p0 + ROWS, a.q_pos + a.q_time) - 1;
            /* Key tiles that see this tile of queries: n0 .. n1, whichever block asks. */
            const interval first = keys_of(a, 0, p0), last = keys_of(a, 0, p1);
            const int32_t lo = max(first.lo, a.k_pos) - a.k_pos, hi = min(last.hi, a.k_pos + a.k_time) - a.k_pos;
            const int32_t n0 = lo / KEYS, n1 = hi > 0 ? (hi - 1) / KEYS : -1;
            if (n < n0 || n > n1) continue;
            const bool visible = last.lo <= key0 && first.hi > key1; /* to all of these queries */
            const bool all =
                lane < a.levels && p0 >= block1 && p1 < block0 + reach && p1 - far + 1 <= key0 && p0 + far > key1;
            const bool some = lane < a.levels && last.hi > key0 && first.lo <= key1 && p1 >= block0 &&
                              p0 < block1 + reach && p1 + far > key0 && p0 - far + 1 <= key1;
            const int from = __popc(__ballot_sync(~0u, all)), to = __popc(__ballot_sync(~0u, some));
            const bool masked = from != to || clipped || !visible;
            const int64_t row = ((int64_t)batch * a.heads + h) * a.rows + m * ROWS;
            for (int c = from; c <= to; c++, t++) {
                const int s = t % Q_STAGES, s2 = t % DO_STAGES;
                sti_mbar_wait(bars + 8 * (B_Q_FREE + s), (t / Q_STAGES & 1) ^ 1);
                const level_cost &cost = a.depth[c];
                if (masked)
                    for (int i = lane; i < ROWS; i += 32) {
                        const interval in = keys_of(a, c - 1, p0 + i);
                        interval out = { FAR, FAR };
                        if (c < a.levels) out = keys_of(a, c, p0 + i);
                        /* relative to the tile; an empty deeper interval excludes nothing */
                        ((int4 *)(mem + S::bounds))[s * ROWS + i] =
                            make_int4(in.lo - key0, min(in.hi, key1 + 1) - key0, out.lo - key0, out.hi - key0);
                    }
                __syncwarp();
                if (lane == 0) {
                    visit *r = ring + t % RING;
                    *r = { (64 * cost.steps + D - 1) / D + (64 * cost.vsteps + D - 1) / D * 4 - 4,
                           cost.rank,
                           masked,
                           cost.scale,
                           cost.gain,
                           (int32_t)(row / ROWS),
                           n1 - n,
                           c >= to,
                           row * D };
                    const uint32_t bar = bars + 8 * (B_Q + s), dst = base + S::q + s * S::TILE;
                    const int panels = cost.steps > 4 ? 2 : 1, vpanels = cost.vsteps > 4 ? 2 : 1;
                    sti_mbar_expect(bar, panels * ROWS * 128 + 2 * ROWS * 4);
                    for (int p = 0; p < panels; p++)
                        sti_tma_load(dst + p * ROWS * 128, &a.q[c - 1], bar, 64 * p, m * ROWS, h, batch);
                    bulk_load(base + S::lse + s * ROWS * 4, a.lse + row, ROWS * 4, bar);
                    bulk_load(base + S::delta + s * ROWS * 4, a.delta + row, ROWS * 4, bar);
                    const uint32_t bar2 = bars + 8 * (B_DO + s2), dst2 = base + S::dout + s2 * S::TILE;
                    sti_mbar_wait(bars + 8 * (B_DO_FREE + s2), (t / DO_STAGES & 1) ^ 1);
                    sti_mbar_expect(bar2, vpanels * ROWS * 128);
                    for (int p = 0; p < vpanels; p++)
                        sti_tma_load(dst2 + p * ROWS * 128, &a.dout[c - 1], bar2, 64 * p, m * ROWS, h, batch);
                }
                __syncwarp();
            }
        }
    const int s = t % Q_STAGES;
    sti_mbar_wait(bars + 8 * (B_Q_FREE + s), (t / Q_STAGES & 1) ^ 1);
    if (lane == 0) {
        ring[t % RING].kind = 0;
        sti_mbar_arrive(bars + 8 * (B_Q + s));
    }
}

/* ---- one thread adds finished tiles to dq --------------------------------------------------------------------------
 */

/* Additions are done in the L2 cache, in which the counters live too, and are complete before a counter moves: relaxed
 * accesses suffice, and fences would be half of the time from one block's addition to the next one's. */
__device__ __forceinline__ int32_t seen(const int32_t *counter)
{
    int32_t x;
    asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(x) : "l"(counter) : "memory");
    return x;
}
__device__ __forceinline__ void announce(int32_t *counter)
{
    asm volatile("red.relaxed.gpu.global.add.s32 [%0], 1;" ::"l"(counter) : "memory");
}
/* Units of dq: 64 queries x up to 64 columns; for D = 128 two panels of columns, for D = 64 two halves of the queries.
 */
template <int D> __device__ __forceinline__ int units(int kind)
{
    return D == 64 || ((kind - 1) & 3) > 1 ? 2 : 1;
}
template <int D> __device__ __forceinline__ void add(const arguments &a, unsigned char *mem, uint32_t base)
{
    typedef shared<D> S;
    const uint32_t full = base + S::bars + 8 * B_DQ, free = base + S::bars + 8 * B_DQ_FREE;
    for (int t = 0, i = 0;; t++) {
        sti_mbar_wait(full + 8 * (i & 1), i >> 1 & 1);
        const visit r = *((const visit *)(mem + S::ring) + t % RING);
        if (r.kind == 0) break;
        int32_t *done = a.done + r.counter;
        while (seen(done) != r.order) {}
        const int count = units<D>(r.kind);
        for (int u = 0; u < count; u++, i++) {
            if (u) sti_mbar_wait(full + 8 * (i & 1), i >> 1 & 1);
            const uint32_t columns = D == 64 ? r.rank : min(r.rank - 64 * u, 64), bytes = (columns + 7) / 8 * 2048;
            bulk_add(a.dq + r.dq + u * 4096, base + S::dq + (i & 1) * S::DQ, bytes);
            sti_tma_store_commit();
            sti_tma_store_wait_read<0>();
            sti_mbar_arrive(free + 8 * (i & 1));
        }
        sti_tma_store_wait<0>();
        if (r.last) announce(done);
    }
}

/* ---- consumers ----------------------------------------------------------------------------------------------------
 */

/* The products. Widths of S, dP, dk and dv are known when compiled, rounded up to quarters of D: what is beyond the
 * prefix is zero in q and dout. dq is formed in whole units, whose columns beyond the prefix are not added. */

/* d (64 x ROWS) = rows of k times q^T; the same for v and dout. */
template <int D, int N, int COUNT>
__device__ __forceinline__ void scores_of_width(float (&d)[COUNT], uint64_t x, uint64_t y)
{
    constexpr int ROWS = TILE_ROWS<D>;
    sti_wgmma_fence();
#pragma unroll
    for (int i = 0; i < N; i++)
        sti_wgmma_ss<ROWS, 0, 0>(d, sti_wgmma_at(x, i / 4 * (KEYS * 128) + i % 4 * 32),
                                 sti_wgmma_at(y, i / 4 * (ROWS * 128) + i % 4 * 32), i > 0);
    sti_wgmma_commit();
}
/* d (64 x columns) += p (64 x ROWS, fragments) times a tile of ROWS rows. */
template <int D, int N, int COUNT>
__device__ __forceinline__ void outer_of_width(float (&d)[COUNT], const uint32_t *p, uint64_t y)
{
    sti_wgmma_fence();
#pragma unroll
    for (int i = 0; i < TILE_ROWS<D> / 16; i++) sti_wgmma_rs<N, 1>(d, p + 4 * i, sti_wgmma_at(y, 2048 * i), 1);
    sti_wgmma_commit();
}
/* The same with p (64 x ROWS) in shared memory. */
template <int D, int N, int COUNT>
__device__ __forceinline__ void outer_of_width(float (&d)[COUNT], uint64_t x, uint64_t y)
{
    sti_wgmma_fence();
#pragma unroll
    for (int i = 0; i < TILE_ROWS<D> / 16; i++)
        sti_wgmma_ss<N, 0, 1>(d, sti_wgmma_at(x, i / 4 * (KEYS * 128) + i % 4 * 32), sti_wgmma_at(y, 2048 * i), 1);
    sti_wgmma_commit();
}
/* d (64 queries x N columns) = ds^T (128 keys x 64 queries)^T times k's columns. */
template <int N, int COUNT> __device__ __forceinline__ void inner_of_width(float (&d)[COUNT], uint64_t x, uint64_t y)
{
    sti_wgmma_fence();
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++)
        sti_wgmma_ss<N, 1, 1>(d, sti_wgmma_at(x, 2048 * i), sti_wgmma_at(y, 2048 * i), i > 0);
    sti_wgmma_commit();
}

/* The same in all lanes, and known to the compiler to be. */
__device__ __forceinline__ int uniform(int x)
{
    return (int)__reduce_max_sync(~0u, (unsigned)x);
}

template <int D, bool LEVELS> struct consumer {
    typedef shared<D> S;
    static constexpr int ROWS = S::ROWS;
    /* Take turns at the weights: what both wait for makes them reach these together. At d = 128 that costs as much as
     * it gains. */
    static constexpr bool TURNS = D == 64;
    const arguments &a;
    unsigned char *mem;
    uint32_t base, bars;
    int w, thread, lane, row, column, store_row;

    __device__ __forceinline__ const visit *at(int t) const { return (const visit *)(mem + S::ring) + t % RING; }
    /* Kind of visit t, once its queries are there; 0: the end. */
    __device__ __forceinline__ int next(int t) const
    {
        sti_mbar_wait(bars + 8 * (B_Q + t % Q_STAGES), t / Q_STAGES & 1);
        return uniform(at(t)->kind);
    }
    __device__ __forceinline__ uint32_t queries(int t) const { return base + S::q + t % Q_STAGES * S::TILE; }
    __device__ __forceinline__ uint32_t douts(int t) const { return base + S::dout + t % DO_STAGES * S::TILE; }
    __device__ __forceinline__ uint32_t scores_of(int t) const { return base + S::ds + (t & 1) * S::DS; }

    /* s = weights of visit t from its scores. */
    __device__ __forceinline__ void weigh(float (&s)[ROWS / 2], int t) const
    {
        const visit *r = at(t);
        const float scale = r->scale;
        const float *lse = (const float *)(mem + S::lse) + t % Q_STAGES * ROWS + column;
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++) {
            const float2 l = *(const float2 *)(lse + 8 * i);
            s[4 * i] = exp2_fast(fmaf(s[4 * i], scale, -l.x));
            s[4 * i + 1] = exp2_fast(fmaf(s[4 * i + 1], scale, -l.y));
            s[4 * i + 2] = exp2_fast(fmaf(s[4 * i + 2], scale, -l.x));
            s[4 * i + 3] = exp2_fast(fmaf(s[4 * i + 3], scale, -l.y));
        }
        if (!r->masked) return;
        const int4 *bounds = (const int4 *)(mem + S::bounds) + t % Q_STAGES * ROWS + column;
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int4 b = bounds[8 * i + (j & 1)];
                const int key = row + (j & 2) * 4;
                if (key < b.x || key >= b.y || (key >= b.z && key < b.w)) s[4 * i + j] = 0;
            }
    }
    /* x = v dout^T becomes the gradient of the scores, and goes to shared memory. */
    __device__ __forceinline__ void differentiate(float (&x)[ROWS / 2], const uint32_t (&p)[ROWS / 4], int t) const
    {
        const float *delta = (const float *)(mem + S::delta) + t % Q_STAGES * ROWS + column;
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++) {
            const float2 d = *(const float2 *)(delta + 8 * i);
            x[4 * i] -= d.x;
            x[4 * i + 1] -= d.y;
            x[4 * i + 2] -= d.x;
            x[4 * i + 3] -= d.y;
        }
        if (LEVELS) {
            const float gain = at(t)->gain;
            if (gain != 1)
#pragma unroll
                for (int i = 0; i < ROWS / 2; i++) x[i] *= gain;
        }
        const uint32_t tile = scores_of(t) + store_row * 128;
#pragma unroll
        for (int i = 0; i < ROWS / 16; i++) {
            uint32_t ds[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const uint32_t both = p[4 * i + j]; /* weights as rounded for dv: half the registers */
                ds[j] = sti_pack_bf16(__uint_as_float(both << 16) * x[8 * i + 2 * j],
                                      __uint_as_float(both & 0xffff0000u) * x[8 * i + 2 * j + 1]);
            }
            const int chunk = 2 * (i & 3) + (lane >> 4);
            sti_stmatrix(tile + i / 4 * (KEYS * 128) + ((chunk ^ (store_row & 7)) << 4), ds);
        }
        sti_fence_async();
    }
    /* Visits from t on as long as they are of this kind: Q steps of 16 columns of q and k, V of v. */
    template <int Q, int V>
    __device__ __forceinline__ int walk(float (&dk)[D / 2], float (&dv)[D / 2], int t, int kind) const;
    __device__ __forceinline__ void run(int32_t pair, int32_t n) const;
};

/* While the weights of a visit are worked out, the tensor cores form dk of the one before and dP; during the gradients
 * of scores, dv. */
template <int D, bool LEVELS>
template <int Q, int V>
__device__ __forceinline__ int consumer<D, LEVELS>::walk(float (&dk)[D / 2], float (&dv)[D / 2], int t, int kind) const
{
    const uint64_t k_rows = sti_wgmma_k(base + S::k + w * 8192), v_rows = sti_wgmma_k(base + S::v + w * 8192);
    float x[ROWS / 2];
    uint32_t p[ROWS / 4];
    scores_of_width<D, Q>(x, k_rows, sti_wgmma_k(queries(t)));
    sti_wgmma_commit(); /* in place of dk */
    for (;;) {
        sti_wgmma_wait<1>();
        sti_wgmma_pin(x);
        if (TURNS) sti_bar_sync(BAR_TURN + w, CONSUMERS);
        weigh(x, t);
#pragma unroll
        for (int i = 0; i < ROWS / 16; i++) sti_wgmma_pack(p + 4 * i, x, i);
        if (TURNS) sti_bar_arrive(BAR_TURN + 1 - w, CONSUMERS);
        sti_mbar_wait(bars + 8 * (B_DO + t % DO_STAGES), t / DO_STAGES & 1);
        scores_of_width<D, V>(x, v_rows, sti_wgmma_k(douts(t)));
        outer_of_width<D, 16 * V>(dv, (const uint32_t *)p, sti_wgmma_mn(douts(t), ROWS * 128));
        sti_wgmma_wait<1>();
        sti_wgmma_pin(x);
        if (t && lane == 0) sti_mbar_arrive(bars + 8 * (B_Q_FREE + (t - 1) % Q_STAGES));
        sti_mbar_wait(bars + 8 * (B_DS_FREE + (t & 1)), (t >> 1 & 1) ^ 1);
        differentiate(x, p, t);
        __syncwarp();
        if (lane == 0) sti_mbar_arrive(bars + 8 * (B_DS + (t & 1)));
        sti_wgmma_wait<0>();
        if (lane == 0) sti_mbar_arrive(bars + 8 * (B_DO_FREE + t % DO_STAGES));
        const int now = next(t + 1);
        const uint64_t ds = sti_wgmma_k(scores_of(t) + w * 8192), y = sti_wgmma_mn(queries(t), ROWS * 128);
        if (now != kind) {
            sti_bar_sync(BAR_END + w, 128);
            outer_of_width<D, 16 * Q>(dk, ds, y);
            sti_wgmma_wait<0>();
            sti_wgmma_pin(dk);
            sti_wgmma_pin(dv);
            return t + 1;
        }
        t++;
        scores_of_width<D, Q>(x, k_rows, sti_wgmma_k(queries(t)));
        sti_bar_sync(BAR_END + w, 128);
        outer_of_width<D, 16 * Q>(dk, ds, y);
    }
}

template <int D, bool LEVELS> __device__ __forceinline__ void consumer<D, LEVELS>::run(int32_t pair, int32_t n) const
{
    constexpr int U = D / 64; /* steps in a quarter */
    const uint32_t k_rows = base + S::k + w * 8192, v_rows = base + S::v + w * 8192;
    float dk[D / 2], dv[D / 2];
#pragma unroll
    for (int i = 0; i < D / 2; i++) dk[i] = dv[i] = 0;
    sti_mbar_wait(bars + 8 * B_KV, 0);
    if (TURNS && w == 1) sti_bar_arrive(BAR_TURN, CONSUMERS); /* warpgroup 0 begins */
    int t = 0;
    for (int kind; (kind = next(t)) != 0;) {
        if (!LEVELS)
            t = walk<D / 16, D / 16>(dk, dv, t, kind);
        else
            switch (kind) {
#define WALK(q, v)                                                                                                     \
    case q + 4 * v - 4:                                                                                                \
        t = walk<q * U, v * U>(dk, dv, t, kind);                                                                       \
        break
#define WALKS(v)                                                                                                       \
    WALK(1, v);                                                                                                        \
    WALK(2, v);                                                                                                        \
    WALK(3, v);                                                                                                        \
    WALK(4, v)
                WALKS(1);
                WALKS(2);
                WALKS(3);
                WALKS(4);
#undef WALKS
#undef WALK
            }
    }
    /* The end: dq's warpgroup sees the ring's last entry. */
    sti_mbar_wait(bars + 8 * (B_DS_FREE + (t & 1)), (t >> 1 & 1) ^ 1);
    if (lane == 0) sti_mbar_arrive(bars + 8 * (B_DS + (t & 1)));
    sti_wgmma_pin(dk);
    sti_wgmma_pin(dv);
    sti_bar_sync(BAR_K, CONSUMERS + 128); /* nobody reads k any more */
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t f[4];
        const uint32_t at =
            i / 4 * (KEYS * 128) + store_row * 128 + (((2 * (i & 3) + (lane >> 4)) ^ (store_row & 7)) << 4);
#pragma unroll
        for (int j = 0; j < 8; j++) dk[8 * i + j] *= a.dk_scale;
        sti_wgmma_pack(f, dk, i);
        sti_stmatrix(base + S::k + at, f);
        sti_wgmma_pack(f, dv, i);
        sti_stmatrix(base + S::v + at, f);
    }
    sti_fence_async();
    sti_bar_sync(BAR_END + w, 128);
    if (thread == 0) {
        const int batch = pair / a.kv_heads, kv_head = pair % a.kv_heads;
        for (int i = 0; i < S::PANELS; i++) {
            sti_tma_store(&a.dk, k_rows + i * KEYS * 128, 64 * i, n * KEYS + 64 * w, kv_head, batch);
            sti_tma_store(&a.dv, v_rows + i * KEYS * 128, 64 * i, n * KEYS + 64 * w, kv_head, batch);
        }
        sti_tma_store_commit();
        sti_tma_store_wait_read<0>();
    }
}

/* ---- one warpgroup forms dq -----------------------------------------------------------------------------------------
 */

template <int D, bool LEVELS> __device__ __forceinline__ void form_dq(unsigned char *mem, uint32_t base)
{
    typedef shared<D> S;
    const int thread = threadIdx.x & 127, lane = thread & 31, column = 2 * (lane & 3);
    const uint32_t bars = base + S::bars;
    int i = 0;
    sti_mbar_wait(bars + 8 * B_KV, 0);
    for (int t = 0;; t++) {
        sti_mbar_wait(bars + 8 * (B_DS + (t & 1)), t >> 1 & 1);
        const visit *r = (const visit *)(mem + S::ring) + t % RING;
        const int kind = uniform(r->kind), rank = r->rank, count = units<D>(kind);
        if (kind == 0) break;
        for (int u = 0; u < count; u++, i++) {
            float dq[32];
            inner_of_width<64>(dq, sti_wgmma_mn(base + S::ds + (t & 1) * S::DS + (D == 64 ? u * (KEYS * 128) : 0), 0),
                               sti_wgmma_mn(base + S::k + (D == 64 ? 0 : u * (KEYS * 128)), 0));
            sti_wgmma_wait<0>();
            sti_wgmma_pin(dq);
            if (u == count - 1 && lane == 0) sti_mbar_arrive(bars + 8 * (B_DS_FREE + (t & 1)));
            sti_mbar_wait(bars + 8 * (B_DQ_FREE + (i & 1)), (i >> 1 & 1) ^ 1);
            const uint32_t out = base + S::dq + (i & 1) * S::DQ + thread * 16;
            const int left = rank - (D == 64 ? 0 : 64 * u);
            if (LEVELS && left < 64 && left % 8) { /* the columns of k beyond the prefix */
                const int last = left / 8;
#pragma unroll
                for (int j = 0; j < 8; j++)
                    if (j == last) {
                        if (column >= left % 8) dq[4 * j] = dq[4 * j + 2] = 0;
                        if (column + 1 >= left % 8) dq[4 * j + 1] = dq[4 * j + 3] = 0;
                    }
            }
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (!LEVELS || 8 * j < left)
                    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(out + j * 2048), "f"(dq[4 * j]),
                                 "f"(dq[4 * j + 1]), "f"(dq[4 * j + 2]), "f"(dq[4 * j + 3])
                                 : "memory");
            sti_fence_async();
            __syncwarp();
            if (lane == 0) sti_mbar_arrive(bars + 8 * (B_DQ + (i & 1)));
        }
    }
    sti_mbar_wait(bars + 8 * (B_DQ_FREE + (i & 1)), (i >> 1 & 1) ^ 1);
    if (lane == 0) sti_mbar_arrive(bars + 8 * (B_DQ + (i & 1)));
    sti_bar_arrive(BAR_K, CONSUMERS + 128);
}

template <int D, bool LEVELS>
__global__ void __launch_bounds__(THREADS, 1) products(const __grid_constant__ arguments a)
{
    typedef shared<D> S;
    extern __shared__ unsigned char raw[];
    __shared__ int32_t work;
    const uint32_t start = sti_smem(raw),
                   base = (start + STI_SWIZZLE_ALIGN - 1) / STI_SWIZZLE_ALIGN * STI_SWIZZLE_ALIGN;
    unsigned char *mem = raw + (base - start);
    const uint32_t bars = base + S::bars;
    if (threadIdx.x == 0) {
        /* Blocks wait for blocks with smaller numbers only, so numbers are given out in the order of starting. */
        work = atomicAdd(a.ticket, 1);
        sti_mbar_init(bars + 8 * B_KV, 1);
        for (int i = 0; i < Q_STAGES; i++) {
            sti_mbar_init(bars + 8 * (B_Q + i), 1);
            sti_mbar_init(bars + 8 * (B_Q_FREE + i), CONSUMERS / 32);
        }
        for (int i = 0; i < DO_STAGES; i++) {
            sti_mbar_init(bars + 8 * (B_DO + i), 1);
            sti_mbar_init(bars + 8 * (B_DO_FREE + i), CONSUMERS / 32);
        }
        for (int i = 0; i < 2; i++) {
            sti_mbar_init(bars + 8 * (B_DQ + i), 4);
            sti_mbar_init(bars + 8 * (B_DQ_FREE + i), 1);
            sti_mbar_init(bars + 8 * (B_DS + i), CONSUMERS / 32);
            sti_mbar_init(bars + 8 * (B_DS_FREE + i), 4);
        }
        sti_mbar_init_fence();
    }
    __syncthreads();
    const int32_t pair = work / a.k_tiles, n = a.k_tiles - 1 - work % a.k_tiles;
    if (threadIdx.x >= CONSUMERS + 128) {
        sti_registers_shrink<32>();
        const int warp = (threadIdx.x - CONSUMERS - 128) / 32;
        if (warp == 0) produce<D>(a, mem, base, pair, n);
        if (warp == 1 && (threadIdx.x & 31) == 0) add<D>(a, mem, base);
    } else if (threadIdx.x >= CONSUMERS) {
        sti_registers_shrink<64>();
        form_dq<D, LEVELS>(mem, base);
    } else {
        sti_registers_grow<208>();
        const int w = uniform(threadIdx.x / 128), thread = threadIdx.x & 127, lane = thread & 31,
                  first = 64 * w + thread / 32 * 16;
        const consumer<D, LEVELS> c = {
            a, mem, base, bars, w, thread, lane, first + lane / 4, 2 * (lane & 3), first + (lane & 15)
        };
        c.run(pair, n);
    }
}

/* ---- before and after ----------------------------------------------------------------------------------------------
 */

struct rows_arguments {
    const __nv_bfloat16 *o, *dout, *q;
    const float *lse;
    int64_t o_batch, o_head, o_time, do_batch, do_head, do_time, q_batch, q_head, q_time, l_batch, l_head, l_time;
    float *lse2, *delta, *dq_sum;
    __nv_bfloat16 *dq, *scaled; /* scaled: NULL when the levels share one scale */
    int32_t time, rows, heads;
    int32_t d_qk, d_v;               /* columns of q and of o; kernels work at D, filled up with zeros */
    float ratio[128], dq_scale[128]; /* by column */
};

struct bf16x8 {
    __nv_bfloat162 x[4];
};

/* delta = rowsum(o dout), base 2 lse, scaled queries. D / 8 threads a row. */
template <int D> __global__ void __launch_bounds__(256) before(const __grid_constant__ rows_arguments a)
{
    const int part = threadIdx.x % (D / 8), batch = blockIdx.z, head = blockIdx.y;
    const int32_t i = blockIdx.x * (256 / (D / 8)) + threadIdx.x / (D / 8);
    const bool in = i < a.time;
    float sum = 0;
    if (in && 8 * part < a.d_v) {
        const bf16x8 o = *(const bf16x8 *)(a.o + batch * a.o_batch + head * a.o_head + i * a.o_time + 8 * part);
        const bf16x8 d = *(const bf16x8 *)(a.dout + batch * a.do_batch + head * a.do_head + i * a.do_time + 8 * part);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float2 x = __bfloat1622float2(o.x[j]), y = __bfloat1622float2(d.x[j]);
            sum = fmaf(x.x, y.x, fmaf(x.y, y.y, sum));
        }
    }
    if (a.scaled && in && 8 * part < a.d_qk) {
        bf16x8 q = *(const bf16x8 *)(a.q + batch * a.q_batch + head * a.q_head + i * a.q_time + 8 * part);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float2 x = __bfloat1622float2(q.x[j]);
            x.x *= a.ratio[8 * part + 2 * j];
            x.y *= a.ratio[8 * part + 2 * j + 1];
            q.x[j] = __float22bfloat162_rn(x);
        }
        *(bf16x8 *)(a.scaled + (((int64_t)batch * a.heads + head) * a.time + i) * D + 8 * part) = q;
    }
#pragma unroll
    for (int j = D / 16; j; j >>= 1) sum += __shfl_xor_sync(~0u, sum, j);
    if (part) return;
    const int64_t at = ((int64_t)batch * a.heads + head) * a.rows + i;
    const float l = in ? a.lse[batch * a.l_batch + head * a.l_head + i * a.l_time] : -INFINITY;
    a.lse2[at] = l == -INFINITY ? INFINITY : l * LOG2E; /* a row that sees nothing: every weight 0 */
    a.delta[at] = in ? sum : 0;
}

/* 64 rows of dq: fragments to rows, scaled and rounded. */
template <int D> __global__ void __launch_bounds__(256) after(const __grid_constant__ rows_arguments a)
{
    __shared__ __nv_bfloat162 tile[64][D / 2 + 4];
    const int batch = blockIdx.z, head = blockIdx.y, first = blockIdx.x * 64;
    const float4 *sum = (const float4 *)(a.dq_sum + (((int64_t)batch * a.heads + head) * a.rows + first) * D);
    for (int i = threadIdx.x; i < 64 * D / 4; i += 256) {
        const int t = i & 127, c = i / 128 * 8 + 2 * (t & 3), r = t / 32 * 16 + (t & 31) / 4;
        const float4 v = sum[i];
        const float s = a.dq_scale[c], s1 = a.dq_scale[c + 1];
        tile[r][c / 2] = __float22bfloat162_rn(make_float2(v.x * s, v.y * s1));
        tile[r + 8][c / 2] = __float22bfloat162_rn(make_float2(v.z * s, v.w * s1));
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 64 * D / 8; i += 256) {
        const int r = i / (D / 8), part = i % (D / 8);
        if (first + r < a.time && 8 * part < a.d_qk)
            *(uint4 *)(a.dq + batch * a.q_batch + head * a.q_head + (first + r) * a.q_time + 8 * part) =
                *(const uint4 *)&tile[r][4 * part];
    }
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

size_t padded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

struct layout { /* of the workspace, bytes */
    size_t lse, delta, dq, done, scaled, bytes;
    int64_t rows;
};

bool scales_differ(const sti_attention_shape *s)
{
    const sti_attention_part *p = &s->part[0];
    for (int l = 1; l < p->levels; l++)
        if (p->level[l].rank > 0 && p->level[l].scale != p->level[0].scale) return true;
    return false;
}

layout lay_out(const sti_attention_shape *s, int64_t batch, int64_t q_time)
{
    layout w;
    w.rows = (q_time + 127) / 128 * 128;
    const size_t n = (size_t)(batch * s->heads * w.rows), width = (size_t)sti_attention_sm90_width(s);
    w.lse = 0;
    w.delta = w.lse + padded(n * 4);
    w.dq = w.delta + padded(n * 4);
    w.done = w.dq + padded(n * width * 4); /* dq and done are cleared together */
    w.scaled = w.done + padded((n / 64 + 1) * 4);
    w.bytes = w.scaled + (scales_differ(s) ? padded(n * width * 2) : 0);
    return w;
}

bool map_of(CUtensorMap *map, const sti_attention_array *x, int64_t batch, int64_t heads, int64_t time, int64_t columns,
            int rows)
{
    const int64_t size[4] = { batch, heads, time > 0 ? time : 1, columns }, stride[3] = { x->batch, x->head, x->time };
    return sti_tma_map(map, x->data, 2, size, stride, rows, 64, true);
}

int32_t near(int64_t x)
{
    return x < FAR ? (int32_t)x : FAR;
}

template <int D, bool LEVELS> cudaError_t run(const arguments &a, int64_t blocks, cudaStream_t stream)
{
    const int bytes = shared<D>::bytes;
    const cudaError_t e = cudaFuncSetAttribute(products<D, LEVELS>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (e != cudaSuccess) return e;
    products<D, LEVELS><<<(unsigned)blocks, THREADS, bytes, stream>>>(a);
    return cudaGetLastError();
}

template <int D> cudaError_t backward(const sti_attention_shape *s, const sti_attention_call *c, cudaStream_t stream)
{
    const sti_attention_part *part = &s->part[0];
    const layout w = lay_out(s, c->batch, c->q_time);
    unsigned char *work = (unsigned char *)c->work;
    const bool scaled = scales_differ(s);
    arguments a = {};
    rows_arguments r = {};
    r.o = (const __nv_bfloat16 *)c->o.data, r.o_batch = c->o.batch, r.o_head = c->o.head, r.o_time = c->o.time;
    r.dout = (const __nv_bfloat16 *)c->dout.data;
    r.do_batch = c->dout.batch, r.do_head = c->dout.head, r.do_time = c->dout.time;
    r.q = (const __nv_bfloat16 *)c->q.data, r.q_batch = c->q.batch, r.q_head = c->q.head, r.q_time = c->q.time;
    r.lse = (const float *)c->lse.data, r.l_batch = c->lse.batch, r.l_head = c->lse.head, r.l_time = c->lse.time;
    r.lse2 = (float *)(work + w.lse), r.delta = (float *)(work + w.delta), r.dq_sum = (float *)(work + w.dq);
    r.scaled = scaled ? (__nv_bfloat16 *)(work + w.scaled) : nullptr;
    r.time = (int32_t)c->q_time, r.rows = (int32_t)w.rows, r.heads = (int32_t)s->heads;
    r.d_qk = (int32_t)s->d_qk, r.d_v = (int32_t)s->d_v;
    for (int l = 0, i = 0; l < part->levels; l++)
        for (int j = 0; j < part->level[l].rank; j++, i++) {
            r.ratio[i] = (float)(part->level[l].scale / part->level[0].scale);
            r.dq_scale[i] = (float)part->level[l].scale;
        }

    a.lse = r.lse2, a.delta = r.delta, a.dq = r.dq_sum;
    a.done = (int32_t *)(work + w.done);
    a.ticket = a.done + c->batch * s->heads * w.rows / TILE_ROWS<D>;
    a.heads = (int32_t)s->heads, a.kv_heads = (int32_t)s->kv_heads, a.group = (int32_t)(s->heads / s->kv_heads);
    a.levels = part->levels, a.blocks = part->blocks, a.causal = s->causal;
    a.q_time = (int32_t)c->q_time, a.k_time = (int32_t)c->k_time, a.rows = (int32_t)w.rows;
    a.q_tiles = (int32_t)((c->q_time + TILE_ROWS<D> - 1) / TILE_ROWS<D>);
    a.k_tiles = (int32_t)((c->k_time + KEYS - 1) / KEYS);
    a.q_pos = (int32_t)c->q_pos, a.k_pos = (int32_t)c->k_pos;
    a.dk_scale = (float)part->level[0].scale;
    sti_attention_array q = c->q;
    if (scaled) q = { r.scaled, s->heads * c->q_time * D, c->q_time * D, D };
    bool ok = map_of(&a.k, &c->k, c->batch, s->kv_heads, c->k_time, s->d_qk, KEYS) &&
              map_of(&a.v, &c->v, c->batch, s->kv_heads, c->k_time, s->d_v, KEYS) &&
              map_of(&a.dk, &c->dk, c->batch, s->kv_heads, c->k_time, s->d_qk, 64) &&
              map_of(&a.dv, &c->dv, c->batch, s->kv_heads, c->k_time, s->d_v, 64);
    bool levels = false;
    int32_t rank = 0, vrank = 0;
    for (int l = 0; l < part->levels; l++) {
        a.reach[l] = near(part->level[l].reach);
        rank += part->level[l].rank, vrank += part->level[l].vrank;
        const double gain = part->gain[l + 1];
        const int columns = rank == s->d_qk ? D : rank, vcolumns = vrank == s->d_v ? D : vrank; /* with the zeros */
        levels |= columns != D || vcolumns != D || gain != 1;
        a.depth[l + 1] = { columns, (columns + 15) / 16, (vcolumns + 15) / 16,
                           (float)(part->level[0].scale * gain) * LOG2E, (float)gain };
        ok = ok && map_of(&a.q[l], &q, c->batch, s->heads, c->q_time, rank, TILE_ROWS<D>) &&
             map_of(&a.dout[l], &c->dout, c->batch, s->heads, c->q_time, vrank, TILE_ROWS<D>);
    }
    if (!ok) return cudaErrorInvalidValue;
    cudaError_t e = cudaMemsetAsync(work + w.dq, 0, w.scaled - w.dq, stream);
    if (e != cudaSuccess) return e;
    const dim3 grid((unsigned)(w.rows / (256 / (D / 8))), (unsigned)s->heads, (unsigned)c->batch);
    if (c->q_time > 0) before<D><<<grid, 256, 0, stream>>>(r);
    if ((e = cudaGetLastError()) != cudaSuccess) return e;
    const int64_t blocks = c->batch * s->kv_heads * a.k_tiles;
    if (blocks > 0) e = levels ? run<D, true>(a, blocks, stream) : run<D, false>(a, blocks, stream);
    if (e != cudaSuccess) return e;
    r.dq = (__nv_bfloat16 *)c->dq.data, r.q_batch = c->dq.batch, r.q_head = c->dq.head, r.q_time = c->dq.time;
    const dim3 tiles((unsigned)((c->q_time + 63) / 64), (unsigned)s->heads, (unsigned)c->batch);
    if (c->q_time > 0) after<D><<<tiles, 256, 0, stream>>>(r);
    return cudaGetLastError();
}

} /* namespace */

bool sti_attention_sm90_backward_fits(const sti_attention_shape *s, int32_t dtype)
{
    const sti_attention_part *p = &s->part[0];
    if (dtype != STRATA_BF16 || s->parts != 1 || s->alibi || p->offset || p->levels > MOST) return false;
    if (!sti_attention_sm90_width(s)) return false;
    int64_t rank = 0, vrank = 0;
    for (int l = 0; l < p->levels; l++) rank += p->level[l].rank, vrank += p->level[l].vrank;
    return rank == s->d_qk && vrank == s->d_v && p->level[0].rank > 0 && p->level[0].vrank > 0 &&
           p->level[0].scale != 0;
}

size_t sti_attention_sm90_backward_work(const sti_attention_shape *s, int64_t batch, int64_t q_time)
{
    return lay_out(s, batch, q_time).bytes;
}

void sti_attention_sm90_backward(const strata_context *ctx, const sti_attention_shape *s, const sti_attention_call *c)
{
    struct sti_cuda *cuda = sti_cuda_of(ctx);
    const cudaError_t e =
        sti_attention_sm90_width(s) == 64 ? backward<64>(s, c, cuda->stream) : backward<128>(s, c, cuda->stream);
    if (e != cudaSuccess) sti_cuda_note(cuda, e, "attention backward (sm90)");
}
