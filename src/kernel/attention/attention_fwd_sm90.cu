/* Attention forward on Hopper (README.md, "Hopper"): two producer warps stream tiles of K and of V through rings in
 * shared memory by TMA; every consumer warpgroup owns 64 query rows, forms S = Q K^T by wgmma, and multiplies P, from
 * registers, with V. The products of one tile run under the exponentials of the next. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <type_traits>

#include "backend/cuda/cuda.cuh"
#include "backend/cuda/tma.cuh"
#include "backend/cuda/wgmma.cuh"
#include "kernel/attention/attention_sm90.h"

namespace
{

enum { MAX_LEVELS = 16, FAR = 1 << 30 };

/* What a launch needs to know. Positions are key indices of the call: index = position - k_pos. */
struct params {
    CUtensorMap q, k, o;
    CUtensorMap v[MAX_LEVELS]; /* by depth: zero beyond its value columns; one without value levels */
    float *lse;                /* NULL: not wanted */
    int64_t lse_batch, lse_head, lse_time;
    int32_t heads, group, q_time, k_time, d_qk, d_v;
    int32_t row_tiles, units;     /* of work: row tiles of heads */
    int32_t bundle, total_heads;  /* heads that run side by side; batch * heads */
    int32_t *next;                /* units handed out beyond the first of every block; NULL: blocks do one */
    int32_t causal, delta, reach; /* level 1: row i sees keys from i + delta - reach + 1 */
    float scale;                  /* of level 1, times log2 e */
    /* Levels. Depth c, from 1, is the number of levels that cover a pair. */
    int32_t levels, distance, scaled, varies, values, ragged; /* ragged: v comes by depths */
    struct {
        int32_t size, phase, base; /* block of row i starts at base + (i + phase) / size * size; or the distance */
        int32_t column, vcolumn;   /* past the level's last column of q and k, of v */
        float gain;                /* gain[depth] / gain[1] */
        float ratio;               /* scale of the level / scale of level 1 */
    } level[MAX_LEVELS];
};

struct span {
    int32_t lo, hi; /* [lo, hi) */
};

/* Keys that row i sees. */
__device__ __forceinline__ span visible(const params &p, int i)
{
    span s;
    s.lo = p.reach >= FAR ? 0 : max(0, i + p.delta - p.reach + 1);
    s.hi = p.causal ? i + p.delta + 1 : p.reach >= FAR ? FAR : i + p.delta + p.reach;
    s.hi = min(s.hi, p.k_time);
    return s;
}
/* Keys that level l > 0 joins with row i, visible or not. */
__device__ __forceinline__ span covered(const params &p, int l, int i)
{
    const int size = p.level[l].size;
    if (p.distance) return { i + p.delta - size + 1, i + p.delta + size };
    const int lo = p.level[l].base + (i + p.level[l].phase) / size * size;
    return { lo, lo + size };
}

/* Keys that a level covers for all rows of a range, and for some; lane l holds level l (mod MAX_LEVELS). */
struct alignas(16) cover {
    span all, some;
};
__device__ __forceinline__ cover cover_rows(const params &p, int lane, int first, int last)
{
    cover c = { { 0, FAR }, { 0, FAR } };
    if (lane > 0) c = { { FAR, 0 }, { FAR, 0 } };
    if (lane > 0 && lane < p.levels) {
        const span a = covered(p, lane, first), b = covered(p, lane, last);
        c.all = { b.lo, a.hi };
        c.some = { a.lo, b.hi };
    }
    return c;
}
/* Depths that the keys [lo, hi) have with the rows of c: at least `all`, at most `some`. */
__device__ __forceinline__ void depths(const cover &c, int lo, int hi, int *all, int *some)
{
    const uint32_t lanes = (1u << MAX_LEVELS) - 1;
    const int a = __popc(lanes & __ballot_sync(~0u, c.all.lo <= lo && hi <= c.all.hi));
    const int b = __popc(lanes & __ballot_sync(~0u, c.some.lo < hi && lo < c.some.hi));
    *all = hi > lo ? max(a, 1) : 1;
    *some = hi > lo ? max(b, *all) : 1;
}

struct work_item {
    int tile, head; /* head: batch * heads + head */
};
/* Bundles of heads one after the other, so that their keys stay in the L2 cache; in a bundle the longest rows first. */
__device__ __forceinline__ work_item work_of(const params &p, int unit)
{
    const int first = unit / (p.bundle * p.row_tiles) * p.bundle, i = unit - first * p.row_tiles;
    const int heads = min(p.bundle, p.total_heads - first);
    return { p.row_tiles - 1 - i / heads, first + i % heads };
}

__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
template <int COUNT> __device__ __forceinline__ void pin(uint32_t (&d)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+r"(d[i])::"memory");
}

enum { PLAIN, KEYS, VALUES };

/* An address in a uniform register, from which descriptors are formed here and not kept from earlier on. */
__device__ __forceinline__ uint32_t here(uint32_t address)
{
    return __shfl_sync(~0u, address, 0);
}

template <int D_, int BN_, int WGS_, int STAGES_, int LEVELS_> struct config {
    static constexpr int D = D_, BN = BN_;             /* head dimension; keys of a tile */
    static constexpr int WGS = WGS_;                   /* consumer warpgroups, 64 rows each */
    static constexpr int STAGES = STAGES_;             /* of the ring */
    static constexpr bool LEVELS = LEVELS_ != PLAIN;   /* depths differ */
    static constexpr bool VALUES = LEVELS_ == 2;       /* also of the value columns */
    static constexpr bool AHEAD = D == 128 && !VALUES; /* exponentials of a tile under the values of the one before */
    static constexpr int PANELS = D / 64, BM = WGS * 64, THREADS = (WGS + 1) * 128;
    static constexpr int Q_PANEL = 64 * 128, Q_BYTES = WGS * PANELS * Q_PANEL; /* [warpgroup][panel][row], twice */
    static constexpr int KV_PANEL = BN * 128, KV_BYTES = PANELS * KV_PANEL;    /* [panel][key] */
    static constexpr int BARRIERS = 10 + 4 * STAGES;              /* Q's, of units of work, two units, the ring's */
    static constexpr int TAIL_BYTES = LEVELS ? WGS * Q_PANEL : 0; /* [warpgroup][row], 16 columns used */
    static constexpr int SMEM = 2 * Q_BYTES + 2 * STAGES * KV_BYTES + TAIL_BYTES + BARRIERS * 8 +
                                (LEVELS ? D * 4 + WGS * MAX_LEVELS * 16 : 0) + 1024;
    static constexpr int REGISTERS = WGS == 2 ? 240 : 160, PRODUCER = WGS == 2 ? 24 : 32;
};

/* Shared memory of a block. */
template <class C> struct memory {
    uint32_t q, k, v, tail, bars;
    int *units;
    float *ratio;
    cover *covers; /* [warpgroup][level] */
    __device__ __forceinline__ memory(unsigned char *raw)
    {
        const uint32_t at = sti_smem(raw), base = (at + 1023) & ~1023u;
        q = base;
        k = q + 2 * C::Q_BYTES;
        v = k + C::STAGES * C::KV_BYTES;
        tail = v + C::STAGES * C::KV_BYTES;
        bars = tail + C::TAIL_BYTES;
        units = (int *)(raw + (bars - at) + 64);
        ratio = (float *)(raw + (bars - at) + C::BARRIERS * 8);
        covers = (cover *)(ratio + C::D);
    }
    __device__ __forceinline__ uint32_t q_full(int s) const { return bars + 8 * s; }
    __device__ __forceinline__ uint32_t q_free(int s) const { return bars + 16 + 8 * s; }
    __device__ __forceinline__ uint32_t unit_full(int s) const { return bars + 32 + 8 * s; }
    __device__ __forceinline__ uint32_t unit_free(int s) const { return bars + 48 + 8 * s; }
    __device__ __forceinline__ volatile int *unit(int s) const { return units + s; }
    __device__ __forceinline__ uint32_t k_full(int s) const { return bars + 80 + 8 * s; }
    __device__ __forceinline__ uint32_t k_free(int s) const { return bars + 80 + 8 * (C::STAGES + s); }
    __device__ __forceinline__ uint32_t v_full(int s) const { return bars + 80 + 8 * (2 * C::STAGES + s); }
    __device__ __forceinline__ uint32_t v_free(int s) const { return bars + 80 + 8 * (3 * C::STAGES + s); }
};
template <int STAGES> struct ring {
    int stage = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void step()
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* Tiles [lo, hi) of keys for the rows [first, last]. */
template <class C> __device__ __forceinline__ span tiles_of(const params &p, int first, int last)
{
    const int lo = visible(p, first).lo, hi = visible(p, last).hi;
    if (hi <= lo) return { 0, 0 };
    return { lo / C::BN, (hi + C::BN - 1) / C::BN };
}

/* ---- producer --------------------------------------------------------------------------------------------------- */

/* The K warp hands out units, loads Q and streams K; the V warp streams V: neither waits for the other's slots. */
template <class C, bool V> __device__ void produce(const params &p, const memory<C> &m)
{
    const int lane = threadIdx.x & 31;
    const bool leader = lane == 0;
    ring<C::STAGES> r;
    ring<2> ru, rq;
    for (int unit = blockIdx.x, next = p.units;; unit = __shfl_sync(~0u, next, 0)) {
        if (V) {
            sti_mbar_wait(m.unit_full(ru.stage), ru.parity);
            unit = *m.unit(ru.stage);
            __syncwarp();
            if (leader) sti_mbar_arrive(m.unit_free(ru.stage));
        } else {
            sti_mbar_wait(m.unit_free(ru.stage), ru.parity ^ 1);
            if (leader) {
                *m.unit(ru.stage) = unit;
                sti_mbar_arrive(m.unit_full(ru.stage));
            }
        }
        ru.step();
        if (unit >= p.units) break;
        if (!V && p.next && leader) next = atomicAdd(p.next, 1) + gridDim.x; /* any order gives the same result */
        const work_item w = work_of(p, unit);
        const int batch = w.head / p.heads, head = w.head - batch * p.heads, kv_head = head / p.group;
        const int first = w.tile * C::BM, last = min(first + C::BM, p.q_time) - 1;
        const span range = tiles_of<C>(p, first, last), keys = { visible(p, first).lo, visible(p, last).hi };
        cover c;
        if (C::LEVELS) c = cover_rows(p, lane, first, last);
        if (!V) {
            sti_mbar_wait(m.q_free(rq.stage), rq.parity ^ 1);
            if (leader) {
                sti_mbar_expect(m.q_full(rq.stage), C::Q_BYTES);
                for (int g = 0; g < C::WGS; g++)
                    for (int x = 0; x < C::PANELS; x++)
                        sti_tma_load(m.q + rq.stage * C::Q_BYTES + (g * C::PANELS + x) * C::Q_PANEL, &p.q,
                                     m.q_full(rq.stage), 64 * x, first + 64 * g, head, batch);
            }
            rq.step();
        }
        for (int n = range.hi - 1; n >= range.lo; n--) {
            int panels = C::PANELS;
            const CUtensorMap *map = V ? &p.v[0] : &p.k;
            if (C::LEVELS) {
                int all, some;
                depths(c, max(n * C::BN, keys.lo), min(n * C::BN + C::BN, keys.hi), &all, &some);
                if (!V)
                    panels = (p.level[some - 1].column + 63) / 64;
                else if (C::VALUES) {
                    panels = (p.level[some - 1].vcolumn + 63) / 64;
                    if (p.ragged) map = &p.v[some - 1];
                }
            }
            const uint32_t full = V ? m.v_full(r.stage) : m.k_full(r.stage);
            sti_mbar_wait(V ? m.v_free(r.stage) : m.k_free(r.stage), r.parity ^ 1);
            if (leader) {
                sti_mbar_expect(full, panels * C::KV_PANEL);
                for (int x = 0; x < panels; x++)
                    sti_tma_load((V ? m.v : m.k) + r.stage * C::KV_BYTES + x * C::KV_PANEL, map, full, 64 * x,
                                 n * C::BN, kv_head, batch);
            }
            r.step();
        }
    }
}

/* ---- consumers -------------------------------------------------------------------------------------------------- */

/* Weights are exp2(score - top), top being the maximum of some tile of the row that was seen, so that its sum is at
 * least 1 and what underflows does not count. Later maxima are not looked for: bf16 and f32 hold weights up to 2^127.
 * Only when a thread's sum over a tile reaches LIMIT (or is infinite) is the tile weighed again, from a raised top. A
 * row has less than 2^23 tiles and 4 threads, so that its sum stays below 2^89, and O is finite with values up to 2^38.
 * A looked-for maximum within SLACK of top leaves it where it is, and O unscaled. */
constexpr float SLACK = 8, LIMIT = 0x1p64f;

template <class C> struct consumer {
    static constexpr int NS = C::BN / 2, NO = C::D / 2; /* registers of S and of O */
    static constexpr int STEPS = C::D / 16;             /* 16 columns each */

    const params &p;
    const memory<C> &m;
    int wg, lane, row; /* row: of the thread's first fragment row, within the warpgroup */
    uint32_t q, slot;  /* the warpgroup's rows of Q; 16 columns of them with a part cleared */
    float o[NO], s[NS];
    uint32_t a[C::BN / 4]; /* P */
    float top[2], sum[2];  /* of the thread's two rows: maximum of some tile, in log2 units; its share of the sum */
    bool ready;            /* all rows of the warp have a top */
    span keys, inner;      /* keys that some row sees; tiles that every row sees all of */
    int first;             /* query row of the warpgroup */
    ring<C::STAGES> rk, rv;
    ring<2> ru, rq;
    uint32_t stored = 0; /* barrier of the Q whose memory a store still reads */

    struct tile {
        int n, all, some;
    };

    __device__ __forceinline__ consumer(const params &params_, const memory<C> &memory_) : p(params_), m(memory_)
    {
        wg = threadIdx.x / 128 - 1;
        lane = threadIdx.x & 31;
        row = (threadIdx.x & 127) / 32 * 16 + lane / 4;
        slot = m.tail + wg * C::Q_PANEL;
    }

    __device__ __forceinline__ tile classify(int n) const
    {
        tile t = { n, 1, 1 };
        if (C::LEVELS)
            depths(m.covers[wg * MAX_LEVELS + lane % MAX_LEVELS], max(n * C::BN, keys.lo),
                   min(n * C::BN + C::BN, keys.hi), &t.all, &t.some);
        return t;
    }
    __device__ __forceinline__ float gain(const tile &t) const
    {
        return C::LEVELS && p.varies ? p.scale * p.level[t.all - 1].gain : p.scale;
    }
    __device__ __forceinline__ int columns(int depth) const { return C::LEVELS ? p.level[depth - 1].column : C::D; }
    /* Groups of 16 columns that products of a depth have. V is zero beyond its columns, Q by last_step. */
    __device__ __forceinline__ int score_steps(int depth) const { return (columns(depth) + 15) / 16; }
    __device__ __forceinline__ int value_steps(int depth) const
    {
        return C::VALUES ? (p.level[depth - 1].vcolumn + 15) / 16 : STEPS;
    }
    __device__ __forceinline__ void sync() const { sti_bar_sync(1 + C::WGS + wg, 128); }
    __device__ __forceinline__ void release(uint32_t bar) const
    {
        __syncwarp();
        if (lane == 0) sti_mbar_arrive(bar);
    }
    /* Warpgroups take turns at the tensor cores: while one's products run, the others have their exponentials. */
    __device__ __forceinline__ void take_turn() const { sti_bar_sync(1 + wg, 256); }
    __device__ __forceinline__ void pass_turn() const { sti_bar_arrive(1 + (wg + 1) % C::WGS, 256); }

    /* f(N) for the constant N that n is, 1 .. STEPS: widths of products are constants. Plain kernels know one. */
    template <int N, class F> __device__ __forceinline__ void each(int n, F f)
    {
        if constexpr (N >= STEPS)
            f(std::integral_constant<int, STEPS>());
        else if constexpr (!C::LEVELS)
            each<STEPS>(n, f);
        else if (n == N)
            f(std::integral_constant<int, N>());
        else
            each<N + 1>(n, f);
    }

    /* ---- scores -------------------------------------------------------------------------------------------------- */

    /* Columns [lo, hi) of the 16-column group `group` of Q to the slot, zero elsewhere. */
    __device__ __forceinline__ void fill_slot(int group, int lo, int hi) const
    {
        const int t = threadIdx.x & 127, r = t / 2, x = group * 16 + t % 2 * 8;
        uint4 w = *(const uint4 *)__cvta_shared_to_generic(q + group / 4 * C::Q_PANEL +
                                                           sti_swizzle(r, group % 4 * 2 + t % 2));
        uint32_t *h = (uint32_t *)&w;
        sync(); /* products that read the slot are complete */
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int y = x + 2 * e;
            h[e] &= (y >= lo && y < hi ? 0xffffu : 0u) | (y + 1 >= lo && y + 1 < hi ? 0xffff0000u : 0u);
        }
        *(uint4 *)__cvta_shared_to_generic(slot + sti_swizzle(r, t % 2)) = w;
        sti_fence_async();
        sync();
    }
    /* The last 16 columns of Q that a depth uses, cut at its end. */
    __device__ __forceinline__ uint64_t last_step(int depth) const
    {
        const int end = columns(depth), group = (end - 1) / 16;
        if (end % 16 == 0) return sti_wgmma_k(q + group / 4 * C::Q_PANEL + group % 4 * 32);
        fill_slot(group, group * 16, end);
        return sti_wgmma_k(slot);
    }
    /* S (+)= Q K^T over N groups of columns, of which `last` is the last of Q; 0 in `add`: overwrites. */
    template <int N> __device__ __forceinline__ void issue_scores(uint32_t k, uint64_t last, int32_t add)
    {
        const uint64_t x = sti_wgmma_k(here(q)), y = sti_wgmma_k(here(k));
        sti_wgmma_pin(s);
        sti_wgmma_fence();
#pragma unroll
        for (int i = 0; i < N; i++)
            sti_wgmma_ss<C::BN, 0, 0>(s,
                                      C::LEVELS && i == N - 1 ? last : sti_wgmma_at(x, i / 4 * C::Q_PANEL + i % 4 * 32),
                                      sti_wgmma_at(y, i / 4 * C::KV_PANEL + i % 4 * 32), i > 0 ? 1 : add);
        sti_wgmma_commit();
    }
    template <int N> __device__ __forceinline__ void scores_of(uint32_t k, uint64_t last, int32_t add)
    {
        issue_scores<N>(k, last, add);
        sti_wgmma_wait<0>();
        sti_wgmma_pin(s);
    }
    /* All columns of a depth, complete on return. */
    __device__ __forceinline__ void scores(uint32_t k, int depth, int32_t add)
    {
        if (!C::LEVELS) return scores_of<STEPS>(k, 0, add);
        const uint64_t last = last_step(depth);
        each<1>(score_steps(depth), [&](auto n) { scores_of<decltype(n)::value>(k, last, add); });
    }
    /* S where a level does not cover, cleared. */
    __device__ __forceinline__ void clear_scores(int l, int n)
    {
        const span x = covered(p, l, first + row), y = covered(p, l, first + row + 8);
#pragma unroll
        for (int i = 0; i < NS; i++) {
            const int key = n * C::BN + i / 4 * 8 + lane % 4 * 2 + i % 2;
            const span r = i & 2 ? y : x;
            if (key < r.lo || key >= r.hi) s[i] = 0;
        }
    }
    /* S of a tile whose depth varies: the deepest level first, cleared where it does not cover before the next. */
    __device__ __forceinline__ void scores_mixed(uint32_t k, const tile &t)
    {
        const uint64_t y = sti_wgmma_k(k);
        int32_t add = 0;
        for (int l = t.some - 1; l >= t.all; l--) {
            const int lo = columns(l), hi = columns(l + 1);
            for (int i = lo / 16; i * 16 < hi; i++) {
                fill_slot(i, lo, hi);
                sti_wgmma_pin(s);
                sti_wgmma_fence();
                sti_wgmma_ss<C::BN, 0, 0>(s, sti_wgmma_k(slot), sti_wgmma_at(y, i / 4 * C::KV_PANEL + i % 4 * 32), add);
                sti_wgmma_commit();
                sti_wgmma_wait<0>();
                sti_wgmma_pin(s);
                add = 1;
            }
            clear_scores(l, t.n);
        }
        scores(k, t.all, add);
        if (!p.varies) return;
        for (int l = t.all; l < t.some; l++) {
            const span x = covered(p, l, first + row), z = covered(p, l, first + row + 8);
            const float by = p.level[l].gain / p.level[l - 1].gain;
#pragma unroll
            for (int i = 0; i < NS; i++) {
                const int key = t.n * C::BN + i / 4 * 8 + lane % 4 * 2 + i % 2;
                const span r = i & 2 ? z : x;
                if (key >= r.lo && key < r.hi) s[i] *= by;
            }
        }
    }

    /* Maxima of whole rows from those of four lanes. */
    __device__ __forceinline__ void join_rows(float (&most)[2]) const
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            most[i] = fmaxf(most[i], __shfl_xor_sync(~0u, most[i], 1));
            most[i] = fmaxf(most[i], __shfl_xor_sync(~0u, most[i], 2));
        }
    }
    /* Masks S and brings `top` up to its maxima; O, complete, and the sums follow. */
    __device__ __forceinline__ void raise_top(const tile &t, float by)
    {
        if (t.n < inner.lo || t.n >= inner.hi) {
            const span x = visible(p, first + row), y = visible(p, first + row + 8);
#pragma unroll
            for (int i = 0; i < NS; i++) {
                const int key = t.n * C::BN + i / 4 * 8 + lane % 4 * 2 + i % 2;
                const span r = i & 2 ? y : x;
                if (key < r.lo || key >= r.hi) s[i] = -INFINITY;
            }
        }
        float part[4] = { s[0], s[1], s[2], s[3] }, most[2]; /* short chains */
#pragma unroll
        for (int i = 4; i < NS; i++) part[i % 4] = fmaxf(part[i % 4], s[i]);
#pragma unroll
        for (int i = 0; i < 2; i++) most[i] = fmaxf(part[2 * i], part[2 * i + 1]) * by;
        if (!__any_sync(~0u, most[0] > top[0] + SLACK || most[1] > top[1] + SLACK)) return;
        join_rows(most);
        float shrink[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float next = fmaxf(top[i], most[i]);
            shrink[i] = next == -INFINITY ? 1 : exp2_fast(top[i] - next);
            sum[i] *= shrink[i];
            top[i] = next;
        }
        ready = __all_sync(~0u, top[0] > -INFINITY && top[1] > -INFINITY);
#pragma unroll
        for (int i = 0; i < NO; i++) o[i] *= shrink[i / 2 & 1];
    }
    /* P = exp2(by S - from) to `to`, and its sums. S stays. */
    __device__ __forceinline__ void weigh(uint32_t (&to)[C::BN / 4], float by, const float (&from)[2],
                                          float (&add)[2]) const
    {
        float part[4] = { 0, 0, 0, 0 };
#pragma unroll
        for (int i = 0; i < NS; i += 2) {
            const float x = exp2_fast(fmaf(s[i], by, -from[i / 2 & 1]));
            const float y = exp2_fast(fmaf(s[i + 1], by, -from[i / 2 & 1]));
            part[i % 4] += x;
            part[i % 4 + 1] += y;
            to[i / 2] = sti_pack_bf16(x, y);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) add[i] = part[2 * i] + part[2 * i + 1];
    }
    /* The same for a tile of which nothing is known, to `a`, with the sums. O is complete. */
    __device__ __forceinline__ void weigh_with_care(const tile &t)
    {
        const float by = gain(t);
        raise_top(t, by);
        const float from[2] = { top[0] == -INFINITY ? 0 : top[0],
                                top[1] == -INFINITY ? 0 : top[1] }; /* no key so far */
        float add[2];
        weigh(a, by, from, add);
        sum[0] += add[0];
        sum[1] += add[1];
    }

    /* ---- values -------------------------------------------------------------------------------------------------- */

    /* O += P V over N groups of value columns. */
    template <int N> __device__ __forceinline__ void issue_values(uint32_t (&w)[C::BN / 4], uint32_t v)
    {
        const uint64_t b = sti_wgmma_mn(here(v), C::KV_PANEL);
        sti_wgmma_pin(o);
        pin(w);
        sti_wgmma_fence();
#pragma unroll
        for (int k = 0; k < C::BN / 16; k++) sti_wgmma_rs<16 * N, 1>(o, w + 4 * k, sti_wgmma_at(b, 2048 * k), 1);
        sti_wgmma_commit();
    }
    /* The value columns of tiles of a depth, complete on return. */
    __device__ __forceinline__ void values(uint32_t v, int depth)
    {
        each<1>(value_steps(depth), [&](auto n) {
            issue_values<decltype(n)::value>(a, v);
            sti_wgmma_wait<0>();
            sti_wgmma_pin(o);
            pin(a);
        });
    }
    /* The value columns of a depth where deeper ones are in memory: panels of 64 on the side, the wanted ones added. */
    __device__ __forceinline__ void values_within(uint32_t v, int depth)
    {
        const int end = p.level[depth - 1].vcolumn - lane % 4 * 2;
#pragma unroll
        for (int half = 0; half < C::PANELS; half++) {
            float x[32];
            const uint64_t b = sti_wgmma_mn(here(v) + half * C::KV_PANEL, C::KV_PANEL);
            pin(a);
            sti_wgmma_fence();
#pragma unroll
            for (int k = 0; k < C::BN / 16; k++) sti_wgmma_rs<64, 1>(x, a + 4 * k, sti_wgmma_at(b, 2048 * k), k > 0);
            sti_wgmma_commit();
            sti_wgmma_wait<0>();
            sti_wgmma_pin(x);
            pin(a);
#pragma unroll
            for (int i = 0; i < 32; i++)
                if (64 * half + i / 4 * 8 + i % 2 < end) o[32 * half + i] += x[i];
        }
    }
    /* Values of a tile whose depth varies, one depth after the other. */
    __device__ __forceinline__ void values_mixed(uint32_t v, const tile &t)
    {
        uint32_t whole[C::BN / 4];
#pragma unroll
        for (int i = 0; i < C::BN / 4; i++) whole[i] = a[i];
        for (int d = t.all; d <= t.some; d++) {
            span in[2] = { { -FAR, FAR }, { -FAR, FAR } }, out[2] = { { 0, 0 }, { 0, 0 } };
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (d > 1) in[i] = covered(p, d - 1, first + row + 8 * i);
                if (d < t.some) out[i] = covered(p, d, first + row + 8 * i);
            }
#pragma unroll
            for (int i = 0; i < C::BN / 4; i++) { /* only the pairs of this depth */
                const int key = t.n * C::BN + i / 2 * 8 + lane % 4 * 2;
                const span x = in[i & 1], y = out[i & 1];
                uint32_t keep = ~0u;
                if (key < x.lo || key >= x.hi || (key >= y.lo && key < y.hi)) keep = 0xffff0000u;
                if (key + 1 < x.lo || key + 1 >= x.hi || (key + 1 >= y.lo && key + 1 < y.hi)) keep &= 0xffffu;
                a[i] = whole[i] & keep;
            }
            values_within(v, d);
        }
    }
    __device__ __forceinline__ void finish_values(const tile &t)
    {
        const uint32_t v = m.v + rv.stage * C::KV_BYTES;
        sti_mbar_wait(m.v_full(rv.stage), rv.parity);
        if (C::VALUES && t.all != t.some)
            values_mixed(v, t);
        else
            values(v, t.all);
        release(m.v_free(rv.stage));
        rv.step();
    }
    __device__ __forceinline__ void begin_scores(const tile &u)
    {
        const uint32_t k = m.k + rk.stage * C::KV_BYTES;
        sti_mbar_wait(m.k_full(rk.stage), rk.parity);
        if (C::LEVELS && u.all != u.some)
            scores_mixed(k, u);
        else
            scores(k, u.all, 0);
        release(m.k_free(rk.stage));
        rk.step();
    }

    /* First of the tiles from u downwards that surely have u's only depth: its level ends below them, and the next
     * level is not among them. A tile behind the last visible key says nothing of those before it. */
    __device__ __forceinline__ int depth_end(const tile &u) const
    {
        if (u.n * C::BN >= keys.hi) return u.n;
        const cover *c = m.covers + wg * MAX_LEVELS + u.all;
        int lo = c[-1].all.lo;
        if (u.all < p.levels && c->some.hi <= u.n * C::BN) lo = max(lo, c->some.hi);
        return (max(lo, 0) + C::BN - 1) / C::BN;
    }

    /* ---- tiles --------------------------------------------------------------------------------------------------- */

    /* Scores of tile u under way while tile t's values, weighed by `in`, are; u's weights go to `out` under the values
     * (AHEAD), or once both are complete and `out` may be `in`. True: the weights need care. Products have N groups of
     * columns, or (0) as many as the depths say: then one branch holds both and the wait for them. */
    template <int N>
    __device__ __forceinline__ bool step(uint32_t (&in)[C::BN / 4], uint32_t (&out)[C::BN / 4], tile &t, tile &u,
                                         uint64_t last)
    {
        const uint32_t k = m.k + rk.stage * C::KV_BYTES, v = m.v + rv.stage * C::KV_BYTES;
        sti_mbar_wait(m.k_full(rk.stage), rk.parity);
        if (N == 0) sti_mbar_wait(m.v_full(rv.stage), rv.parity);
        take_turn();
        if constexpr (N > 0) {
            sti_wgmma_pin(o);
            pin(in);
            issue_scores<N>(k, last, 0);
            sti_mbar_wait(m.v_full(rv.stage), rv.parity);
            issue_values<C::VALUES ? N : STEPS>(in, v);
        } else {
            each<1>(score_steps(u.all), [&](auto x) {
                each<1>(value_steps(t.all), [&](auto y) {
                    sti_wgmma_pin(o);
                    pin(in);
                    issue_scores<decltype(x)::value>(k, last, 0);
                    issue_values<decltype(y)::value>(in, v);
                    sti_wgmma_wait<0>();
                    sti_wgmma_pin(s);
                    sti_wgmma_pin(o);
                    pin(in);
                });
            });
        }
        pass_turn();
        sti_wgmma_wait<C::AHEAD>();
        sti_wgmma_pin(s);
        release(m.k_free(rk.stage));
        rk.step();
        if (!C::AHEAD) {
            sti_wgmma_pin(o);
            pin(in);
            release(m.v_free(rv.stage));
            rv.step();
        }
        float add[2];
        weigh(out, gain(u), top, add);
        const bool careful = __any_sync(~0u, !ready || u.n < inner.lo || u.n >= inner.hi || !(add[0] + add[1] < LIMIT));
        if (C::AHEAD) {
            sti_wgmma_hold(careful ? -1 : 0);
            sti_wgmma_wait<0>();
            sti_wgmma_pin(o);
            pin(in);
            release(m.v_free(rv.stage));
            rv.step();
        }
        t = u;
        u.n--;
        if (careful) return true;
        sum[0] += add[0];
        sum[1] += add[1];
        return false;
    }
    /* Tiles from u down to `lo` while their depth stays. The inner loops hold nothing that rarely runs: instructions
     * are fetched in order. All warps of a group stay in the same half of the first one, as products must. */
    template <int N> __device__ __forceinline__ void steady(tile &t, tile &u, int lo)
    {
        const uint64_t last = C::LEVELS ? last_step(u.all) : 0;
        const int stop = C::LEVELS ? max(lo, depth_end(u)) : lo;
        bool careful = true;
        if constexpr (C::AHEAD) {
            uint32_t b[C::BN / 4];
            for (bool odd = false; careful && u.n >= stop;) { /* odd: b holds t's weights */
                for (;;) {
                    if (!odd) {
                        odd = true;
                        careful = step<N>(a, b, t, u, last);
                        if (careful || u.n < stop) break;
                    }
                    odd = false;
                    careful = step<N>(b, a, t, u, last);
                    if (careful || u.n < stop) break;
                }
                if (careful) weigh_with_care(t);
                if (odd) {
#pragma unroll
                    for (int i = 0; i < C::BN / 4; i++) {
                        const uint32_t x = careful ? a[i] : b[i];
                        a[i] = b[i] = x;
                    }
                }
            }
        } else
            while (careful && u.n >= stop) {
                do careful = step<N>(a, a, t, u, last);
                while (!careful && u.n >= stop);
                if (careful) weigh_with_care(t);
            }
        if (C::LEVELS) u = classify(u.n);
    }
    /* One tile, of another width than the one before. */
    __device__ __forceinline__ void cross(tile &t, tile &u)
    {
        if (step<0>(a, a, t, u, last_step(u.all))) weigh_with_care(t);
        u = classify(u.n);
    }
    /* Whether tile u's scores and tile t's values go together. */
    __device__ __forceinline__ bool together(const tile &t, const tile &u) const
    {
        return !C::LEVELS || (u.all == u.some && (!C::VALUES || t.all == t.some));
    }

    /* Level l of Q times scale_l / scale_1. */
    __device__ __forceinline__ void scale_q()
    {
        for (int i = threadIdx.x & 127; i < 64 * C::D / 8; i += 128) {
            const int chunk = i % 8, r = i / 8 % 64, x = i / 512;
            uint4 *at = (uint4 *)__cvta_shared_to_generic(q + x * C::Q_PANEL + sti_swizzle(r, chunk));
            uint4 w = *at;
            __nv_bfloat162 *h = (__nv_bfloat162 *)&w;
            const float *f = m.ratio + x * 64 + chunk * 8;
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float2 z = __bfloat1622float2(h[e]);
                z.x *= f[2 * e];
                z.y *= f[2 * e + 1];
                h[e] = __float22bfloat162_rn(z);
            }
            *at = w;
        }
        sti_fence_async();
        sync();
    }
    /* The memory of the last unit's Q goes back once its output has left. */
    __device__ __forceinline__ void finish_store()
    {
        if (stored && (threadIdx.x & 127) == 0) {
            sti_tma_store_wait_read<0>();
            sti_mbar_arrive(stored);
        }
        stored = 0;
    }
    __device__ __forceinline__ void run();
    __device__ __forceinline__ void finish(int batch, int head);
};

template <class C> __device__ __forceinline__ void consumer<C>::run()
{
    if (wg == C::WGS - 1) sti_bar_arrive(1, 256); /* warpgroup 0 begins */
    for (;;) {
        sti_mbar_wait(m.unit_full(ru.stage), ru.parity);
        const int unit = *m.unit(ru.stage);
        release(m.unit_free(ru.stage));
        ru.step();
        if (unit >= p.units) break;
        const work_item w = work_of(p, unit);
        const int batch = w.head / p.heads, head = w.head - batch * p.heads;
        const int block = w.tile * C::BM;
        const span range = tiles_of<C>(p, block, min(block + C::BM, p.q_time) - 1);
        first = block + 64 * wg;
        const int last = min(first + 64, max(p.q_time, first + 1)) - 1;
        const span x = visible(p, first), y = visible(p, last);
        keys = { x.lo, y.hi };
        inner = { (y.lo + C::BN - 1) / C::BN, x.hi / C::BN };
        if (C::LEVELS) {
            int from = first, to = last;
            if (C::VALUES && p.ragged) { /* a tile has one depth where it has for the whole block */
                from = block;
                to = min(block + C::BM, p.q_time) - 1;
                keys = { visible(p, from).lo, visible(p, to).hi };
            }
            if (lane < MAX_LEVELS) m.covers[wg * MAX_LEVELS + lane] = cover_rows(p, lane, from, to);
            __syncwarp();
        }
#pragma unroll
        for (int i = 0; i < NO; i++) o[i] = 0;
        top[0] = top[1] = -INFINITY;
        sum[0] = sum[1] = 0;
        ready = false;

        q = m.q + rq.stage * C::Q_BYTES + wg * C::PANELS * C::Q_PANEL;
        sti_mbar_wait(m.q_full(rq.stage), rq.parity);
        if (C::LEVELS && p.scaled) scale_q();
        tile t = {}, u = classify(range.hi - 1);
        for (bool pending = false;; pending = true) { /* t's values are to come, u is next */
            if (pending && u.n >= range.lo && together(t, u)) {
                const int n = score_steps(u.all);
                if (C::VALUES && (value_steps(t.all) != n || value_steps(u.all) != n))
                    cross(t, u);
                else
                    each<1>(n, [&](auto x) { steady<decltype(x)::value>(t, u, range.lo); });
                continue;
            }
            if (pending) finish_values(t); /* one product after the other */
            if (u.n < range.lo) break;
            take_turn();
            pass_turn();
#pragma unroll
            for (int i = 0; i < NS; i++) s[i] = 0; /* whose registers were free for the values */
            begin_scores(u);
            finish_store();
            weigh_with_care(u);
            t = u;
            u = classify(u.n - 1);
        }
        finish(batch, head);
    }
    finish_store();
}

/* O / sum through the memory of Q, lse straight out. */
template <class C> __device__ __forceinline__ void consumer<C>::finish(int batch, int head)
{
    float by[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
        sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
        by[i] = sum[i] > 0 ? 1 / sum[i] : 0;
        const int r = first + row + 8 * i;
        if (p.lse && lane % 4 == 0 && r < p.q_time)
            p.lse[batch * p.lse_batch + head * p.lse_head + r * p.lse_time] =
                sum[i] > 0 ? (top[i] + __log2f(sum[i])) * 0.69314718056f : -INFINITY;
    }
    const int r = (threadIdx.x & 127) / 32 * 16 + (lane & 15);
    finish_store();
    sync(); /* nobody reads Q any more */
#pragma unroll
    for (int i = 0; i < C::D / 16; i++) {
        uint32_t f[4];
#pragma unroll
        for (int e = 0; e < 4; e++)
            f[e] = sti_pack_bf16(o[8 * i + 2 * e] * by[e & 1], o[8 * i + 2 * e + 1] * by[e & 1]);
        sti_stmatrix(q + i / 4 * C::Q_PANEL + sti_swizzle(r, i % 4 * 2 + lane / 16), f);
    }
    sti_fence_async();
    sti_bar_sync(1 + C::WGS + wg, 128);
    if ((threadIdx.x & 127) == 0) {
        for (int x = 0; x < C::PANELS; x++) sti_tma_store(&p.o, q + x * C::Q_PANEL, 64 * x, first, head, batch);
        sti_tma_store_commit();
    }
    stored = m.q_free(rq.stage);
    rq.step();
}

template <class C> __global__ void __launch_bounds__(C::THREADS, 1) forward(const __grid_constant__ params p)
{
    extern __shared__ unsigned char raw[];
    const memory<C> m(raw);
    if (threadIdx.x == 0) {
        sti_tma_prefetch(&p.q);
        sti_tma_prefetch(&p.k);
        sti_tma_prefetch(&p.v[0]);
        sti_tma_prefetch(&p.o);
        for (int s = 0; s < 2; s++) {
            sti_mbar_init(m.q_full(s), 1);
            sti_mbar_init(m.q_free(s), C::WGS);
            sti_mbar_init(m.unit_full(s), 1);
            sti_mbar_init(m.unit_free(s), 4 * C::WGS + 1);
        }
        for (int s = 0; s < C::STAGES; s++) {
            sti_mbar_init(m.k_full(s), 1);
            sti_mbar_init(m.v_full(s), 1);
            sti_mbar_init(m.k_free(s), 4 * C::WGS);
            sti_mbar_init(m.v_free(s), 4 * C::WGS);
        }
        sti_mbar_init_fence();
    }
    if (C::LEVELS && threadIdx.x < C::D) {
        int l = 0;
        while (p.level[l].column <= (int)threadIdx.x) l++;
        m.ratio[threadIdx.x] = p.level[l].ratio;
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        sti_registers_shrink<C::PRODUCER>();
        if (threadIdx.x < 32)
            produce<C, false>(p, m);
        else if (threadIdx.x < 64)
            produce<C, true>(p, m);
    } else {
        sti_registers_grow<C::REGISTERS>();
        consumer<C>(p, m).run();
    }
}

template <class C> cudaError_t launch(params *p, const sti_attention_call *c, int sms, cudaStream_t stream)
{
    static const cudaError_t raised =
        cudaFuncSetAttribute(forward<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, C::SMEM);
    if (raised != cudaSuccess) return raised;
    const int64_t heads = p->heads, kv_heads = heads / p->group;
    const int64_t q_size[4] = { c->batch, heads, c->q_time, p->d_qk },
                  o_size[4] = { c->batch, heads, c->q_time, p->d_v },
                  k_size[4] = { c->batch, kv_heads, c->k_time, p->d_qk };
    struct {
        CUtensorMap *map;
        const sti_attention_array *from;
        const int64_t *size;
        int rows;
    } maps[3] = { { &p->q, &c->q, q_size, 64 }, { &p->k, &c->k, k_size, C::BN }, { &p->o, &c->o, o_size, 64 } };
    for (int i = 0; i < 3; i++) {
        const sti_attention_array *x = maps[i].from;
        const int64_t stride[3] = { x->batch, x->head, x->time };
        if (!sti_tma_map(maps[i].map, x->data, 2, maps[i].size, stride, maps[i].rows, 64, true))
            return cudaErrorInvalidValue;
    }
    for (int l = 0; l < (p->ragged ? p->levels : 1); l++) {
        const int32_t columns = p->ragged ? STI_MIN(p->level[l].vcolumn, p->d_v) : p->d_v;
        const int64_t size[4] = { k_size[0], k_size[1], k_size[2], columns };
        const int64_t stride[3] = { c->v.batch, c->v.head, c->v.time };
        if (!sti_tma_map(&p->v[l], c->v.data, 2, size, stride, C::BN, 64, true)) return cudaErrorInvalidValue;
    }
    p->row_tiles = (p->q_time + C::BM - 1) / C::BM;
    p->total_heads = (int)(c->batch * heads);
    const int64_t bytes = p->total_heads / p->group * 4 * C::D * c->k_time, bundles = STI_MAX(1, bytes / (28 << 20));
    p->bundle = (int32_t)STI_MIN((p->total_heads + bundles - 1) / bundles, p->total_heads);
    p->units = p->total_heads * p->row_tiles;
    p->next = p->units > sms ? (int32_t *)c->work : NULL;
    const int grid = p->next ? sms : p->units;
    if (p->next) {
        const cudaError_t e = cudaMemsetAsync(p->next, 0, sizeof *p->next, stream);
        if (e != cudaSuccess) return e;
    }
    forward<C><<<grid, C::THREADS, C::SMEM, stream>>>(*p);
    return cudaPeekAtLastError();
}

/* Saturates far beyond every length. */
int32_t near(int64_t x)
{
    return (int32_t)STI_MAX(-(int64_t)FAR, STI_MIN(x, (int64_t)FAR));
}

/* The launch's view of shape and call; returns the kind of kernel. */
int describe(const sti_attention_shape *shape, const sti_attention_call *c, params *p)
{
    const sti_attention_part *part = &shape->part[0];
    p->lse = (float *)c->lse.data;
    p->lse_batch = c->lse.batch;
    p->lse_head = c->lse.head;
    p->lse_time = c->lse.time;
    p->heads = (int32_t)shape->heads;
    p->group = (int32_t)(shape->heads / shape->kv_heads);
    p->q_time = (int32_t)c->q_time;
    p->k_time = (int32_t)c->k_time;
    p->causal = shape->causal;
    p->delta = near(c->q_pos - c->k_pos);
    p->reach = near(part->level[0].reach);
    p->levels = part->levels;
    p->distance = !part->blocks;
    p->scale = (float)(part->level[0].scale * part->gain[1] * 1.4426950408889634);
    const int32_t width = sti_attention_sm90_width(shape);
    int32_t column = 0, vcolumn = 0;
    p->d_qk = (int32_t)shape->d_qk;
    p->d_v = (int32_t)shape->d_v;
    p->scaled = p->varies = p->values = p->ragged = 0;
    for (int l = 0; l < part->levels; l++) {
        const sti_attention_level *from = &part->level[l];
        column += from->rank;
        vcolumn += from->vrank;
        p->level[l].column = column == shape->d_qk ? width : column; /* with the zeros that fill it up */
        p->level[l].vcolumn = vcolumn == shape->d_v ? width : vcolumn;
        p->level[l].gain = (float)(part->gain[l + 1] / part->gain[1]);
        p->level[l].ratio = (float)(from->scale / part->level[0].scale);
        p->scaled |= p->level[l].ratio != 1;
        p->varies |= p->level[l].gain != 1;
        p->values |= l > 0 && from->vrank > 0;
        p->ragged |= p->level[l].vcolumn % 16 != 0;
        const int64_t size = STI_MAX(STI_MIN(from->reach, (int64_t)FAR), (int64_t)1);
        p->level[l].size = (int32_t)size;
        p->level[l].phase = (int32_t)(c->q_pos % size);
        p->level[l].base = near(c->q_pos - c->q_pos % size - c->k_pos);
    }
    return p->values ? VALUES : part->levels > 1 ? KEYS : PLAIN;
}

} // namespace

bool sti_attention_sm90_fits(const strata_context *ctx, const sti_attention_shape *shape, int32_t dtype)
{
    const sti_attention_part *part = &shape->part[0];
    if (sti_cuda_of(ctx)->major != 9 || dtype != STRATA_BF16) return false;
    if (shape->parts != 1 || shape->alibi || part->offset != 0 || part->levels > MAX_LEVELS) return false;
    if (!sti_attention_sm90_width(shape)) return false;
    if (shape->heads % shape->kv_heads != 0) return false;
    int64_t columns = 0, vcolumns = 0;
    for (int l = 0; l < part->levels; l++) {
        columns += part->level[l].rank;
        vcolumns += part->level[l].vrank;
        if (!(part->gain[l + 1] > 0)) return false; /* the largest product must be the largest score */
    }
    return columns == shape->d_qk && vcolumns == shape->d_v && part->level[0].vrank > 0 && part->level[0].scale > 0;
}

bool sti_attention_sm90_aligned(const sti_attention_call *c)
{
    const sti_attention_array *const arrays[] = { &c->q, &c->k, &c->v, &c->o };
    for (const sti_attention_array *a : arrays) {
        if (a->batch <= 0 || a->head <= 0 || a->time <= 0) return false; /* heads that share an array have stride 0 */
        if (((uintptr_t)a->data | (uintptr_t)(a->batch | a->head | a->time) * 2) % 16) return false;
    }
    return true;
}

void sti_attention_sm90_forward(const strata_context *ctx, const sti_attention_shape *shape,
                                const sti_attention_call *c)
{
    struct sti_cuda *cuda = sti_cuda_of(ctx);
    params p;
    const int kind = describe(shape, c, &p);
    cudaError_t (*run)(params *, const sti_attention_call *, int, cudaStream_t);
    if (sti_attention_sm90_width(shape) == 128)
        run = kind == PLAIN  ? launch<config<128, 128, 2, 2, PLAIN>>
              : kind == KEYS ? launch<config<128, 128, 2, 2, KEYS>>
                             : launch<config<128, 128, 2, 2, VALUES>>;
    else /* ragged: tiles have one depth for a whole block, so its rows should not straddle blocks of levels */
        run = kind == PLAIN  ? launch<config<64, 128, 3, 2, PLAIN>>
              : kind == KEYS ? launch<config<64, 128, 3, 2, KEYS>>
              : p.ragged     ? launch<config<64, 128, 2, 2, VALUES>>
                             : launch<config<64, 128, 3, 2, VALUES>>;
    const cudaError_t e = run(&p, c, cuda->sms, cuda->stream);
    if (e != cudaSuccess) sti_cuda_note(cuda, e, "attention forward (sm90)");
}
