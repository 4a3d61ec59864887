/* One token at a time over the level-separated cache, and filling it.
 *
 * A slab holds blocks of 64 positions (range.h), so the keys, or values, of a level in a block are one run of bytes
 * whatever the ranks, and a tile (a block of all levels as deep as it reaches) arrives in shared memory with one bulk
 * copy a slab. A block of threads owns a stretch of tiles of one (sequence, key head) and up to 16 query heads of the
 * group:
 *
 * attend_tensor (bf16): one warp copies ahead through a ring of stages, a lane for a level; four warps own 16 positions
 * of a tile each, with their own maximum, and where registers suffice eight take two tiles at once: a tile is a chain
 * of waits, whatever its width. Scores (position, head) and outputs (column, head) are m16n8k16 products, scaled
 * queries split into two bf16 so that they lose nothing. Warps meet once, at the end. Time is bytes for any group.
 * attend_any (f32, f64, and sizes that do not fit the above): plain sums straight from the cache.
 *
 * Stretches leave unnormalised outputs; whoever comes last joins them in order, so bits do not depend on who that is.
 * The block that holds the new token writes it to the cache; others may read the place meanwhile, but not use it. */
#include "backend/cuda/cuda.cuh"
#include "backend/cuda/tma.cuh"
#include "kernel/attention/attention_cuda.h"

#include <float.h>
#include <math.h>

namespace
{

enum {
    LEVELS = STI_ATTENTION_LEVELS,
    SEQUENCES = 256, /* of one launch: their positions are parameters */
    TILE = STI_CACHE_BLOCK,
    QUARTERS = 4, /* of a tile: a warp for each */
    STAGES = 16,  /* at most */
    ANY_HEADS = 4 /* heads that attend_any takes at once, or 1 */
};

struct level { /* of one softmax */
    int32_t rank, at, vrank, vat;
    int64_t slots, vslots, reach; /* reach -1: everything */
    size_t keys, values;          /* bytes from the start of a cache */
    double scale;
};

struct softmax {
    level l[LEVELS];
    double gain[LEVELS + 1];
    int32_t levels, vlevels, varies, blocks, offset, d_qk;
};

__host__ __device__ constexpr int up16(int n)
{
    return (n + 15) / 16 * 16;
}

/* Shared memory: a ring of stages, each (keys, then values) rows of TILE positions, 128 bytes each, as many as the
 * depth needs; queries in two parts, rows of `pitch` elements; the new token. */
struct tensor_plan {
    int32_t ring, keys, pitch, queries, fresh, bytes; /* bytes; columns of keys; elements; offsets; bytes in all */
};

struct job {
    softmax s;
    int32_t part, splits, group, turns, d_v, alibi;
    float share; /* 1 / splits */
    int64_t heads, kv_heads;
    tensor_plan m;
    size_t arrived; /* counters of a cache, 0 between steps: one for each key head and turn */
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
    if (s.l[0].reach >= 0) lo = t - s.l[0].reach + 1;
    if (i > 0 && s.l[i].reach >= 0) {
        const int64_t reach = s.l[i].reach;
        if (!s.blocks)
            lo = max(lo, t - reach + 1);
        else if (t < (int64_t)1 << 31) /* a block that reaches further starts at 0 */
            lo = max(lo, reach < (int64_t)1 << 31 ? (int64_t)((uint32_t)t / (uint32_t)reach * (uint32_t)reach) : 0);
        else
            lo = max(lo, t / reach * reach);
    }
    return max(lo, (int64_t)0);
}

__device__ __forceinline__ int64_t slot_of(int64_t p, int64_t slots)
{
    if (p < slots) return p;
    if (p < (int64_t)1 << 31) return (uint32_t)p % (uint32_t)slots;
    return p % slots;
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
template <typename S> __device__ __forceinline__ S slope_of(const job &w, int64_t h)
{
    return w.alibi ? S(exp2(-8.0 * (double)(h + 1) / (double)w.heads)) * base<S>() : S(0);
}

/* ---- stretches ----------------------------------------------------------------------------------------------------
 * Grid: (stretch, key head and turn, sequence). */

struct stretch {
    int64_t b, g, t, h0; /* sequence, key head, position of the query, first head */
    int heads, tiles;
    int64_t from; /* first tile */
    int64_t lo;   /* first position of the level that is this lane's number */
    char *cache;
};

/* Stretches have equally many bytes. Every block finds the same cuts, which grow with their number; where they are
 * exactly does not matter. */
__device__ __forceinline__ stretch stretch_of(const job &w, int heads)
{
    const softmax &s = w.s;
    const int lane = (int)threadIdx.x % 32, turn = w.turns == 1 ? 0 : (int)blockIdx.y % w.turns;
    stretch x;
    x.b = blockIdx.z;
    x.t = w.pos[x.b];
    x.lo = first_key(s, min(lane, s.levels - 1), x.t);
    const int64_t start = __shfl_sync(~0u, x.lo, 0) / TILE;
    const int end = (int)(x.t / TILE + 1 - start), first = lane < s.levels ? (int)(x.lo / TILE - start) : end;
    int cuts[2];
    if (s.levels == 1) {
        for (int i = 0; i < 2; i++) cuts[i] = (int)((float)end * ((float)(blockIdx.x + i) * w.share));
    } else { /* `before`: what lies before this lane's level, in tiles times columns */
        const level &l = s.l[min(lane, s.levels - 1)];
        const float columns = (float)(l.at + l.rank + l.vat + l.vrank), width = (float)(l.rank + l.vrank);
        float sum = lane < s.levels ? width * (float)first : 0.0f;
        for (int d = 1; d < s.levels; d *= 2) {
            const float y = __shfl_up_sync(~0u, sum, d);
            if (lane >= d) sum += y;
        }
        const float before = columns * (float)first - sum;
        const float all = __shfl_sync(~0u, columns * (float)end - sum, s.levels - 1);
        for (int i = 0; i < 2; i++) {
            const float want = all * ((float)(blockIdx.x + i) * w.share);
            const int at = 31 - __clz((int)__ballot_sync(~0u, lane < s.levels && (lane == 0 || before <= want)));
            const int last = at + 1 < 32 ? __shfl_sync(~0u, first, at + 1) : end;
            const int more = (int)__fdividef(want - before, columns); /* of lane `at` */
            cuts[i] = min(__shfl_sync(~0u, first + more, at), last);
        }
    }
    if (blockIdx.x == 0) cuts[0] = 0;
    if ((int)blockIdx.x + 1 >= w.splits) cuts[1] = end;
    x.from = start + min(cuts[0], end);
    x.tiles = min(cuts[1], end) - min(cuts[0], end);
    x.g = w.turns == 1 ? blockIdx.y : blockIdx.y / w.turns;
    x.h0 = x.g * w.group + turn * heads;
    x.heads = min(heads, w.group - turn * heads);
    x.cache = w.cache + (size_t)x.b * w.stride;
    return x;
}

/* What earlier kernels wrote may be read, and what they read written. */
__device__ __forceinline__ void wait_for_earlier_kernels()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

/* The results of a stretch in the workspace: maximum, sum, and from RESULT on the d_v outputs. */
enum { RESULT = 4 };
constexpr float NOTHING = -FLT_MAX; /* maximum of no scores */

__host__ __device__ constexpr int64_t result_width(int64_t d_v)
{
    return RESULT + (d_v + 3) / 4 * 4;
}
template <typename S> __device__ __forceinline__ S *result(const job &w, const stretch &x, int h, int n)
{
    return (S *)w.work + ((x.b * w.heads + x.h0 + h) * w.splits + n) * result_width(w.d_v);
}

template <typename T>
__device__ __forceinline__ void put_output(const job &w, const stretch &x, int h, int c, sti_sum_t<T> y)
{
    T *const o = (T *)w.o.data + x.b * w.o.batch + (x.h0 + h) * w.o.head + c;
    *o = sti_put<T>(w.part > 0 ? y + sti_sum_t<T>(sti_get(*o)) : y); /* softmaxes add up */
}

template <typename S> __device__ __forceinline__ sti_vec<S, 4> load_results(const S *p)
{
    union {
        sti_vec<S, 4> v;
        float4 f[sizeof(S) / 4];
    } x;
    for (size_t i = 0; i < sizeof(S) / 4; i++) x.f[i] = __ldcg((const float4 *)p + i);
    return x.v;
}

/* Whoever comes last of the stretches joins them all, in their order. By the first JOINERS warps, after they have
 * written the results of their stretch; `room`: 128 numbers for each warp; BATCH loads of a thread are under way at
 * once. The counter is then as it was: 0. */
template <typename T, int JOINERS, int BATCH> __device__ void join(const job &w, const stretch &x, sti_sum_t<T> *room)
{
    typedef sti_sum_t<T> S;
    __shared__ bool last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    sti_bar_sync(1, 32 * JOINERS);
    if (threadIdx.x == 0) {
        unsigned before;
        asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                     : "=r"(before)
                     : "l"((unsigned *)(x.cache + w.arrived) + blockIdx.y), "r"(w.splits - 1)
                     : "memory");
        last = before == (unsigned)w.splits - 1;
    }
    sti_bar_sync(1, 32 * JOINERS);
    if (!last) return;
    const int width = (int)result_width(w.d_v);
    int share = JOINERS; /* warps of a head */
    while (share > 1 && share * x.heads > JOINERS) share /= 2;
    for (int h0 = 0; h0 < x.heads; h0 += JOINERS / share) {
        const int h = h0 + warp / share, mine = warp % share;
        const S *const from = result<S>(w, x, h < x.heads ? h : 0, 0);
        for (int c = 4 * lane; c < (w.d_v + 127) / 128 * 128; c += 128) {
            S y[4] = {}, top = S(NOTHING), sum = S(0);
#pragma unroll 1
            for (int n0 = 0; n0 < w.splits; n0 += 32) { /* lane i: weight of stretch n0 + i */
                const bool is = n0 + lane < w.splits;
                S t = is ? __ldcg(from + (n0 + lane) * width) : S(NOTHING), f = S(0);
                const S u = is ? __ldcg(from + (n0 + lane) * width + 1) : S(0);
#pragma unroll 1
                for (int n = mine; n < 32; n += BATCH * share) {
                    sti_vec<S, 4> v[BATCH];
#pragma unroll
                    for (int i = 0; i < BATCH; i++) {
                        const bool in = n + i * share < 32 && n0 + n + i * share < w.splits && c < w.d_v;
                        v[i] = in ? load_results(from + (n0 + n + i * share) * width + RESULT + c) : sti_vec<S, 4>{};
                    }
                    if (n < share) {
                        const S best = max(top, sti_warp_max(t)), keep = power(top - best);
                        f = power(t - best);
                        sum = sum * keep + sti_warp_sum(u * f);
#pragma unroll
                        for (int e = 0; e < 4; e++) y[e] *= keep;
                        top = best;
                    }
#pragma unroll
                    for (int i = 0; i < BATCH; i++) {
                        const S g = __shfl_sync(~0u, f, (n + i * share) % 32);
#pragma unroll
                        for (int e = 0; e < 4; e++) y[e] += g * v[i].x[e];
                    }
                }
            }
            if (share > 1) {
                for (int e = 0; e < 4; e++) room[warp * 128 + 4 * lane + e] = y[e];
                sti_bar_sync(1, 32 * JOINERS);
                for (int i = 1; i < share && mine == 0; i++)
                    for (int e = 0; e < 4; e++) y[e] += room[(warp + i) * 128 + 4 * lane + e];
                sti_bar_sync(1, 32 * JOINERS);
            }
            for (int e = 0; e < 4; e++)
                if (c + e < w.d_v && mine == 0 && h < x.heads) put_output<T>(w, x, h, c + e, y[e] / sum);
        }
    }
}

/* The new token goes to every level's place in the cache; `threads` threads. */
template <typename T>
__device__ __forceinline__ void write_level(T *slab, int64_t slots, int rank, int at, int64_t g, int64_t t, const T *x,
                                            int threads)
{
    if (rank == 0) return;
    T *const to = slab + sti_cache_element(slots, rank, g, at, at, slot_of(t, slots) / TILE * TILE);
    const int n = (int)(t % TILE);
#pragma unroll 1
    for (int c = (int)threadIdx.x % threads; c < rank; c += threads)
        to[c * TILE + ((n / 8 ^ ((at + c) & 7)) - (at & 7)) * 8 + n % 8] = x[at + c];
}

template <typename T> __device__ void write_token(const job &w, const stretch &x, const T *k, const T *v, int threads)
{
#pragma unroll 1
    for (int i = 0; i < 2 * w.s.levels; i++) {
        const level &l = w.s.l[i / 2];
        if (i % 2 == 0)
            write_level((T *)(x.cache + l.keys), l.slots, l.rank, l.at, x.g, x.t, k, threads);
        else if (i / 2 < w.s.vlevels)
            write_level((T *)(x.cache + l.values), l.vslots, l.vrank, l.vat, x.g, x.t, v, threads);
    }
}
template <typename T> __device__ __forceinline__ const T *new_key(const job &w, const stretch &x)
{
    return (const T *)w.k.data + x.b * w.k.batch + x.g * w.k.head + w.s.offset;
}
template <typename T> __device__ __forceinline__ const T *new_value(const job &w, const stretch &x)
{
    return (const T *)w.v.data + x.b * w.v.batch + x.g * w.v.head;
}

/* ---- bf16 on tensor cores -----------------------------------------------------------------------------------------
 */

__device__ __forceinline__ void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t bar)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"((uint64_t)__cvta_generic_to_global(from)), "r"(bytes), "r"(bar)
                 : "memory");
}
__device__ __forceinline__ void load_matrices(uint32_t r[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void load_transposed(uint32_t r[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ uint32_t transpose(uint32_t x) /* 8 x 8 numbers over a warp */
{
    uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
/* c (16, 8 heads) += a (16, 16) b (16, 8 heads) */
__device__ __forceinline__ void multiply(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ uint32_t pack(float x, float y)
{
    const __nv_bfloat162 p = __floats2bfloat162_rn(x, y);
    return *(const uint32_t *)&p;
}
__device__ __forceinline__ float fast_power(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Element of column `row` and position `p` of a tile. */
__device__ __forceinline__ sti_bf16 *in_tile(char *rows, int row, int p)
{
    return (sti_bf16 *)(rows + sti_swizzle(row, p / 8)) + p % 8;
}

/* Positions [p, min(end, p + 16)) of rows [from, to) become zero. A warp. */
__device__ __forceinline__ void clear_rows(char *rows, int from, int to, int p, int end)
{
    for (int row = from + (int)threadIdx.x % 32; row < to; row += 32)
        for (int i = p; i < min(end, p + 16); i++) *in_tile(rows, row, i) = sti_put<sti_bf16>(0.0f);
}

/* Stages of a depth: whole steps of 16 columns. */
struct ring {
    int columns, vcolumns, values, stage, count; /* of keys, of values; offset of values; bytes; stages */
};

__device__ __forceinline__ ring ring_of(const job &w, int depth)
{
    const level &l = w.s.l[depth - 1], &v = w.s.l[min(depth, w.s.vlevels) - 1];
    ring r;
    r.columns = l.at + l.rank;
    r.vcolumns = v.vat + v.vrank;
    r.values = up16(r.columns) * TILE * 2;
    r.stage = r.values + up16(r.vcolumns) * TILE * 2;
    r.count = min((int)STAGES, w.m.ring / r.stage);
    return r;
}

/* What copies leave out of whole steps becomes zero in every stage. A warp, before it copies. */
__device__ __forceinline__ void clear_gaps(const ring &r, char *raw)
{
    const int keys = up16(r.columns) - r.columns, rows = keys + up16(r.vcolumns) - r.vcolumns;
    if (rows == 0) return;
    for (int n = threadIdx.x % 32; n < rows * 8 * r.count; n += 32) {
        const int row = n / 8 % rows,
                  at = row < keys ? (r.columns + row) * TILE * 2 : r.values + (r.vcolumns + row - keys) * TILE * 2;
        *(uint4 *)(raw + n / 8 / rows * r.stage + at + n % 8 * 16) = make_uint4(0, 0, 0, 0);
    }
    sti_fence_async();
}

/* Warps that compute: two tiles at once where registers suffice. */
__host__ __device__ constexpr int warps_of(int d_v, int heads)
{
    return heads == 8 && d_v > 64 && d_v <= 128 ? 2 * QUARTERS : QUARTERS;
}

/* HEADS: 8 or 16. Scores are (position, head), outputs (column, head). */
/* A register that the compiler does not form again from its parts in every round of a loop. */
__device__ __forceinline__ uint32_t kept(uint32_t x)
{
    uint32_t y;
    asm volatile("mov.u32 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

template <int DV, int HEADS>
__global__ void __launch_bounds__(32 * warps_of(DV, HEADS) + 32, DV == 64 ? 3 : 2)
    attend_tensor(const __grid_constant__ job w)
{
    enum { N = HEADS / 8, WARPS = warps_of(DV, HEADS) };
    extern __shared__ __align__(128) char raw[];
    /* Tile n has barriers n mod STAGES, so that the same warps wait for each of them; of a level: its first tile here,
     * and the positions in it before the level. */
    __shared__ __align__(8) uint64_t full[STAGES], empty[STAGES];
    __shared__ int begin[LEVELS], skip[LEVELS];
    __shared__ float tops[WARPS][HEADS], sums[WARPS][HEADS];
    const softmax &s = w.s;
    const tensor_plan &m = w.m;
    const stretch x = stretch_of(w, HEADS);
    const int lane = (int)kept(threadIdx.x % 32), warp = (int)kept(threadIdx.x / 32), tiles = x.tiles;
    const bool newest = tiles > 0 && (x.from + tiles) * TILE > x.t; /* this stretch has the new token */
    sti_bf16 *const high = (sti_bf16 *)(raw + m.queries), *const fresh = (sti_bf16 *)(raw + m.fresh);
    if (warp == WARPS) { /* lane i copies level i */
        const level &l = s.l[min(lane, s.levels - 1)];
        const int64_t ahead = x.lo / TILE - x.from;
        const int mine = lane < s.levels ? (int)min(max(ahead, (int64_t)0), (int64_t)tiles) : tiles;
        if (lane < s.levels) {
            begin[lane] = mine;
            skip[lane] = ahead >= 0 ? (int)(x.lo % TILE) : 0;
        }
        const uint32_t full_at = sti_smem(full), empty_at = sti_smem(empty);
        if (lane == 0) {
            for (int i = 0; i < min(tiles, (int)STAGES); i++) {
                sti_mbar_init(full_at + 8 * i, 1);
                sti_mbar_init(empty_at + 8 * i, QUARTERS);
            }
            sti_mbar_init_fence();
        }
        __syncwarp();
        sti_bar_arrive(2, 32 * WARPS + 32);
        const int64_t slots = l.slots / TILE, vslots = l.vslots / TILE;
        const uint32_t raw_at = sti_smem(raw), bytes = (uint32_t)l.rank * TILE * 2,
                       vbytes = (uint32_t)l.vrank * TILE * 2;
        int64_t slot = slot_of(x.from + mine, slots), vslot = vbytes ? slot_of(x.from + mine, vslots) : 0;
        const char *const keys = x.cache + l.keys + x.g * slots * bytes;
        const char *const values = x.cache + l.values + x.g * vslots * vbytes;
        const auto wait_read = [&](int n) { /* until tile n has been read */
                                            sti_mbar_wait(empty_at + (unsigned)n % STAGES * 8,
                                                          (unsigned)n / STAGES & 1);
        };
        wait_for_earlier_kernels();
        for (int n = 0; n < tiles;) { /* tiles of one depth */
            const int end = (int)__reduce_min_sync(~0u, (unsigned)(mine > n ? mine : tiles));
            const ring r = ring_of(w, __popc(__ballot_sync(~0u, mine <= n)));
            const uint32_t all = __reduce_add_sync(~0u, mine <= n ? bytes + vbytes : 0);
            const uint32_t to = raw_at + l.at * TILE * 2, vto = raw_at + r.values + l.vat * TILE * 2;
            const int start = n;
            clear_gaps(r, raw);
            __syncwarp();
            for (int at = 0; n < end; n++) {
                const uint32_t bar = full_at + (unsigned)n % STAGES * 8;
                if (n - start >= r.count) wait_read(n - r.count);
                if (lane == 0) sti_mbar_expect(bar, all);
                __syncwarp();
                if (n >= mine) {
                    bulk_load(to + at * r.stage, keys + slot * bytes, bytes, bar);
                    if (vbytes) bulk_load(vto + at * r.stage, values + vslot * vbytes, vbytes, bar);
                    if (++slot == slots) slot = 0;
                    if (++vslot == vslots) vslot = 0;
                }
                if (++at == r.count) at = 0;
            }
            for (int i = max(start, n - r.count); i < n && n < tiles; i++) wait_read(i); /* other stages come next */
        }
        if (newest) {
            sti_bar_sync(3, 32 * WARPS + 32); /* `fresh` is there */
            if (x.h0 * w.kv_heads == x.g * w.heads) write_token(w, x, fresh, fresh + s.d_qk, 32);
        }
        return; /* its copies have landed before the others are through */
    }
    wait_for_earlier_kernels();
    const sti_bf16 *const q = (const sti_bf16 *)w.q.data + x.b * w.q.batch + x.h0 * w.q.head + s.offset;
    for (int c = threadIdx.x; c < m.keys; c += 32 * WARPS) { /* scaled queries in two parts: rows of `pitch` */
        float y[HEADS], scale = 0;
#pragma unroll
        for (int h = 0; h < HEADS; h++) y[h] = h < x.heads && c < s.d_qk ? sti_get(q[h * w.q.head + c]) : 0.0f;
        for (int i = 0; i < s.levels && s.l[i].at <= c; i++) scale = (float)s.l[i].scale * base<float>();
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            const sti_bf16 part = sti_put<sti_bf16>(y[h] * scale);
            high[h * m.pitch + c] = part;
            high[(HEADS + h) * m.pitch + c] = sti_put<sti_bf16>(y[h] * scale - sti_get(part));
        }
    }
    if (newest) {
        const sti_bf16 *const k = new_key<sti_bf16>(w, x), *const v = new_value<sti_bf16>(w, x);
        for (int c = threadIdx.x; c < s.d_qk; c += 32 * WARPS) fresh[c] = k[c];
        for (int c = threadIdx.x; c < w.d_v; c += 32 * WARPS) fresh[s.d_qk + c] = v[c];
    }
    sti_bar_sync(2, 32 * WARPS + 32);
    if (newest) sti_bar_arrive(3, 32 * WARPS + 32);

    float o[DV / 16][N][4], top[N][2], sum[N][2] = {}, slope[N][2];
#pragma unroll
    for (int i = 0; i < DV / 16 * N * 4; i++) o[i / 4 / N][i / 4 % N][i % 4] = 0;
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        top[i / 2][i % 2] = NOTHING;
        slope[i / 2][i % 2] = slope_of<float>(w, x.h0 + i / 2 * 8 + lane % 4 * 2 + i % 2);
    }
    /* rows of ldmatrix: queries (head, column), keys (column, position) transposed, values (column, position) */
    const int quarter = warp % QUARTERS, p0 = quarter * 16, p = (int)kept(p0 + lane / 4); /* positions p and p + 8 */
    const uint32_t query = kept(sti_smem(high) + (lane / 16 * HEADS + lane % 8) * m.pitch * 2 + lane / 8 % 2 * 16);
    const uint32_t key = kept(sti_smem(raw) + sti_swizzle(lane % 8 + lane / 16 * 8, quarter * 2 + lane / 8 % 2));
    const uint32_t value = kept(sti_smem(raw) + sti_swizzle(lane % 8 + lane / 8 % 2 * 8, quarter * 2 + lane / 16));
    const uint32_t full_at = kept(sti_smem(full)), empty_at = kept(sti_smem(empty));
    int depth = 0, next = 0, at = 0; /* tiles up to `next` have this depth */
    ring r = {};

    for (int n = warp / QUARTERS; n < tiles; n += WARPS / QUARTERS) {
        const int low = n == 0 ? skip[0] : 0, end = newest && n == tiles - 1 ? (int)(x.t % TILE) + 1 : TILE;
        int entered = LEVELS; /* first level that begins within this warp's positions */
        bool dirty = false;
        while (n >= next) {
            const int first = next;
            while (depth < s.levels && begin[depth] <= first) depth++;
            next = depth < s.levels ? begin[depth] : tiles;
            r = ring_of(w, depth);
            at = n - first;
            for (int i = depth - 1; i > 0 && begin[i] == n; i--)
                if (skip[i] > p0) entered = i;
        }
        char *const stage = raw + at * r.stage, *const values = stage + r.values;
        sti_mbar_wait(full_at + (unsigned)n % STAGES * 8, (unsigned)n / STAGES & 1);
        if (entered < depth) {
            for (int i = entered; i < depth; i++) {
                clear_rows(stage, s.l[i].at, s.l[i].at + s.l[i].rank, p0, skip[i]);
                if (i < s.vlevels) clear_rows(values, s.l[i].vat, s.l[i].vat + s.l[i].vrank, p0, skip[i]);
            }
            dirty = true;
            __syncwarp();
        }
        if (newest && n == tiles - 1 && (end - 1) / 16 == quarter) { /* the copy has not the new token */
            for (int c = lane; c < s.d_qk; c += 32) *in_tile(stage, c, end - 1) = fresh[c];
            for (int c = lane; c < w.d_v; c += 32) *in_tile(values, c, end - 1) = fresh[s.d_qk + c];
            __syncwarp();
        }

        const uint32_t keys_at = key + at * r.stage, values_at = value + at * r.stage + r.values;
        float c[N][4] = {}, rest[N][4] = {}, odd[N][4] = {}, oddrest[N][4] = {};
        const auto score = [&](int k, float(&high)[N][4], float(&low)[N][4]) {
            uint32_t a[4], b[4];
            load_transposed(a, keys_at + k * TILE * 2);
#pragma unroll
            for (int j = 0; j < N; j++) {
                load_matrices(b, query + (j * 8 * m.pitch + k) * 2);
                multiply(high[j], a, b[0], b[1]);
                multiply(low[j], a, b[2], b[3]);
            }
        };
        int k = 0;
#pragma unroll 1
        for (; k + 64 <= r.columns; k += 64) {
#pragma unroll
            for (int i = 0; i < 64; i += 32) {
                score(k + i, c, rest);
                score(k + i + 16, odd, oddrest);
            }
        }
#pragma unroll 1
        for (; k < r.columns; k += 16) score(k, c, rest);
        bool grows = false;
#pragma unroll
        for (int j = 0; j < N; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) c[j][e] = (c[j][e] + odd[j][e]) + (rest[j][e] + oddrest[j][e]);
            if (s.varies) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int deep = depth;
                    while (deep > entered && p + 8 * i < skip[deep - 1]) deep--;
                    c[j][2 * i] *= (float)s.gain[deep];
                    c[j][2 * i + 1] *= (float)s.gain[deep];
                }
            }
            if (w.alibi) {
                const float far = (float)(x.t - (x.from + n) * TILE - p);
#pragma unroll
                for (int e = 0; e < 4; e++) c[j][e] -= slope[j][e % 2] * (far - (float)(e / 2 * 8));
            }
            if (p0 < low || p0 + 16 > end) {
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (p + e / 2 * 8 < low || p + e / 2 * 8 >= end) c[j][e] = -INFINITY;
            }
#pragma unroll
            for (int e = 0; e < 2; e++) grows |= fmaxf(c[j][e], c[j][e + 2]) > top[j][e] + 8;
        }
        if (__any_sync(~0u, grows)) { /* a maximum serves until a score exceeds it by 2^8 */
#pragma unroll
            for (int j = 0; j < N; j++) {
                float keep[2];
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float best = fmaxf(top[j][e], fmaxf(c[j][e], c[j][e + 2]));
                    for (int d = 4; d < 32; d *= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, d));
                    keep[e] = fast_power(top[j][e] - best);
                    top[j][e] = best;
                    sum[j][e] *= keep[e];
                }
#pragma unroll
                for (int d = 0; d < DV / 16; d++)
#pragma unroll
                    for (int e = 0; e < 4; e++) o[d][j][e] *= keep[e % 2];
            }
        }
        uint32_t b[N][2];
#pragma unroll
        for (int j = 0; j < N; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) sum[j][e % 2] += c[j][e] = fast_power(c[j][e] - top[j][e % 2]);
            b[j][0] = transpose(pack(c[j][0], c[j][1]));
            b[j][1] = transpose(pack(c[j][2], c[j][3]));
        }
        const auto add = [&](int d) {
            uint32_t a[4];
            load_matrices(a, values_at + d * TILE * 2);
#pragma unroll
            for (int j = 0; j < N; j++) multiply(o[d / 16][j], a, b[j][0], b[j][1]);
        };
#pragma unroll
        for (int d = 0; d < DV; d += 64) {
            if (d + 64 <= r.vcolumns) {
#pragma unroll
                for (int i = 0; i < 64; i += 16) add(d + i);
            } else {
#pragma unroll
                for (int i = 0; i < 64; i += 16)
                    if (d + i < r.vcolumns) add(d + i);
            }
        }
        if (dirty) sti_fence_async(); /* the next copy overwrites what was cleared */
        __syncwarp();
        if (lane == 0) sti_mbar_arrive(empty_at + (unsigned)n % STAGES * 8);
        at += WARPS / QUARTERS;
        if (at >= r.count) at -= r.count;
    }

    /* The warps meet: outputs under the common maximum, summed in order. */
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        for (int d = 4; d < 32; d *= 2) sum[i / 2][i % 2] += __shfl_xor_sync(~0u, sum[i / 2][i % 2], d);
        if (lane < 4) {
            tops[warp][i / 2 * 8 + lane * 2 + i % 2] = top[i / 2][i % 2];
            sums[warp][i / 2 * 8 + lane * 2 + i % 2] = sum[i / 2][i % 2];
        }
    }
    sti_bar_sync(1, 32 * WARPS); /* every stage is read */
    float *const out = (float *)raw;
    const int wide = w.d_v + 8;
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        const int h = i / 2 * 8 + lane % 4 * 2 + i % 2;
        float all = tops[0][h];
        for (int n = 1; n < WARPS; n++) all = fmaxf(all, tops[n][h]);
        const float f = fast_power(top[i / 2][i % 2] - all);
        if (h >= x.heads) continue;
#pragma unroll
        for (int d = 0; d < DV / 8; d++) {
            const int column = d * 8 + lane / 4;
            if (column < w.d_v) out[(warp * HEADS + h) * wide + column] = o[d / 2][i / 2][d % 2 * 2 + i % 2] * f;
        }
    }
    sti_bar_sync(1, 32 * WARPS);
    for (int n = threadIdx.x; n < x.heads * w.d_v; n += 32 * WARPS) {
        const int h = x.heads == 1 ? 0 : n / w.d_v, c = n - h * w.d_v;
        float y = 0, all = tops[0][h], total = 0;
        for (int i = 0; i < WARPS; i++) y += out[(i * HEADS + h) * wide + c];
        for (int i = 1; i < WARPS; i++) all = fmaxf(all, tops[i][h]);
        for (int i = 0; i < WARPS; i++) total += sums[i][h] * fast_power(tops[i][h] - all);
        if (w.splits == 1) {
            put_output<sti_bf16>(w, x, h, c, y / total);
            continue;
        }
        float *const to = result<float>(w, x, h, blockIdx.x);
        to[RESULT + c] = y;
        if (c == 0) {
            to[0] = all;
            to[1] = total;
        }
    }
    if (w.splits > 1) join<sti_bf16, WARPS, WARPS == 8 ? 8 : 16>(w, x, out);
}

/* ---- any type and size --------------------------------------------------------------------------------------------
 */

enum { ANY_THREADS = 128 };

template <typename T, int H>
__global__ void __launch_bounds__(ANY_THREADS, sizeof(T) == 8 ? 4 : 8) attend_any(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    extern __shared__ __align__(128) char raw[];
    __shared__ int64_t lo[LEVELS];
    __shared__ S top[H], sum[H], keep[H];
    const softmax &s = w.s;
    S *const q = (S *)raw, *const p = q + s.d_qk * H,
             *const o = p + 2 * TILE * H; /* (column, head), … (head, column) */
    const stretch x = stretch_of(w, H);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = threadIdx.x / TILE, n = threadIdx.x % TILE;
    if (threadIdx.x < s.levels) lo[threadIdx.x] = x.lo;
    wait_for_earlier_kernels();
    if (x.tiles > 0 && (x.from + x.tiles) * TILE > x.t)
        write_token<T>(w, x, new_key<T>(w, x), new_value<T>(w, x), ANY_THREADS);
    for (int i = 0; i < s.levels; i++)
        for (int c = threadIdx.x; c < s.l[i].rank * H; c += ANY_THREADS) {
            const int column = s.l[i].at + c / H, h = min(c % H, x.heads - 1);
            q[column * H + c % H] =
                S(sti_get(((const T *)w.q.data)[x.b * w.q.batch + (x.h0 + h) * w.q.head + s.offset + column])) *
                S(s.l[i].scale) * base<S>();
        }
    for (int i = threadIdx.x; i < H * w.d_v; i += ANY_THREADS) o[i] = S(0);
    if (threadIdx.x < H) {
        top[threadIdx.x] = S(-INFINITY);
        sum[threadIdx.x] = S(0);
    }
    __syncthreads();
    for (int64_t tile = x.from; tile < x.from + x.tiles; tile++) {
        const int64_t p0 = tile * TILE, pos = p0 + n;
        S acc[H] = {}, f = S(s.gain[1]);
        for (int i = 0; i < s.levels && lo[i] < p0 + TILE;
             i++) { /* this thread: half of the columns for one position */
            if (pos < lo[i]) continue;
            const level &l = s.l[i];
            const int64_t block = x.g * (l.slots / TILE) + slot_of(p0, l.slots) / TILE;
            const T *const k = (const T *)(x.cache + l.keys) + block * l.rank * TILE + n % 8;
            if (s.varies) f = S(s.gain[i + 1]);
#pragma unroll 8
            for (int c = half; c < l.rank; c += 2) {
                const S y = S(sti_get(k[c * TILE + ((n / 8) ^ ((l.at + c) & 7)) * 8]));
#pragma unroll
                for (int h = 0; h < H; h++) acc[h] += q[(l.at + c) * H + h] * y;
            }
        }
#pragma unroll
        for (int h = 0; h < H; h++) p[(half * H + h) * TILE + n] = acc[h] * f;
        __syncthreads();
        for (int h = warp; h < H; h += ANY_THREADS / 32) { /* a warp for a head */
            S y[2], best = top[h];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int64_t at = p0 + lane + 32 * e;
                y[e] = p[h * TILE + lane + 32 * e] + p[(H + h) * TILE + lane + 32 * e];
                y[e] -= slope_of<S>(w, x.h0 + h) * S(x.t - at);
                if (at < lo[0] || at > x.t) y[e] = S(-INFINITY);
                best = max(best, y[e]);
            }
            best = sti_warp_max(best);
            const S from = best == S(-INFINITY) ? S(0) : best;
            y[0] = power(y[0] - from);
            y[1] = power(y[1] - from);
            const S part = sti_warp_sum(y[0] + y[1]);
            __syncwarp();
            p[h * TILE + lane] = y[0];
            p[h * TILE + lane + 32] = y[1];
            if (lane == 0) {
                keep[h] = power(top[h] - from);
                sum[h] = sum[h] * keep[h] + part;
                top[h] = best;
            }
        }
        __syncthreads();
        for (int i = 0; i < s.vlevels; i++) { /* a warp for a column */
            const level &l = s.l[i];
            const int64_t block = x.g * (l.vslots / TILE) + slot_of(p0, l.vslots) / TILE;
            const T *const v = (const T *)(x.cache + l.values) + block * l.vrank * TILE + lane % 8;
            const bool in[2] = { p0 + lane >= lo[i] && p0 + lane <= x.t,
                                 p0 + lane + 32 >= lo[i] && p0 + lane + 32 <= x.t };
#pragma unroll 4
            for (int c = warp; c < l.vrank; c += ANY_THREADS / 32) {
                const T *const at = v + c * TILE;
                const int turn = (l.vat + c) & 7;
                const S a = in[0] ? S(sti_get(at[((lane / 8) ^ turn) * 8])) : S(0);
                const S b = in[1] ? S(sti_get(at[((lane / 8 + 4) ^ turn) * 8])) : S(0);
#pragma unroll
                for (int h = 0; h < H; h++) {
                    const S y = sti_warp_sum(p[h * TILE + lane] * a + p[h * TILE + lane + 32] * b);
                    S *const to = o + h * w.d_v + l.vat + c;
                    if (lane == 0) *to = *to * keep[h] + y;
                }
            }
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < x.heads * w.d_v; i += ANY_THREADS) {
        S *const to = result<S>(w, x, i / w.d_v, blockIdx.x);
        to[RESULT + i % w.d_v] = o[i];
        if (i % w.d_v == 0) {
            to[0] = top[i / w.d_v];
            to[1] = sum[i / w.d_v];
        }
    }
    join<T, 4, 2>(w, x, (S *)raw);
}

/* ---- filling ------------------------------------------------------------------------------------------------------
 */

/* Tokens [first, n) of one sequence into a level's slab: a thread for a (column, token), tokens fastest. */
template <typename T>
__global__ void append_level(const T *x, int64_t head, int64_t time, T *to, int64_t at, int64_t rank, int64_t slots,
                             int64_t pos, int64_t first, int64_t n, int64_t count)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t t = first + i % (n - first), c = at + i / (n - first) % rank, g = i / (n - first) / rank;
        to[sti_cache_element(slots, rank, g, at, c, (pos + t) % slots)] = x[g * head + t * time + c];
    }
}

template <typename T>
void append_slab(const strata_context *ctx, const sti_attention_shape *s, const sti_attention_array *x, int64_t column,
                 char *slab, int64_t at, int64_t rank, int64_t slots, int64_t pos, int64_t n)
{
    const int64_t first = n > slots ? n - slots : 0, count = s->kv_heads * rank * (n - first);
    if (count == 0) return;
    append_level<T><<<sti_blocks(ctx, count, 256, 16), 256, 0, sti_stream(ctx)>>>(
        (const T *)x->data + column, x->head, x->time, (T *)slab, at, rank, slots, pos, first, n, count);
    sti_launched(ctx, "attention append");
}

/* ---- launches -----------------------------------------------------------------------------------------------------
 */

softmax softmax_of(const sti_attention_part *p, const sti_cache_layout *l, int part)
{
    softmax s = {};
    s.levels = p->levels;
    s.blocks = p->blocks;
    s.offset = p->offset;
    for (int i = 0, vat = 0; i < p->levels; i++) {
        const sti_attention_level *a = &p->level[i];
        s.l[i] = level{ a->rank,
                        s.d_qk,
                        a->vrank,
                        vat,
                        l->k[part][i].slots,
                        l->v[i].slots,
                        a->reach < STI_NEVER ? a->reach : -1,
                        l->k[part][i].offset,
                        l->v[i].offset,
                        a->scale };
        s.d_qk += a->rank;
        vat += a->vrank;
        s.gain[i + 1] = p->gain[i + 1];
        if (i > 0 && p->gain[i + 1] != p->gain[i]) s.varies = 1;
        if (a->vrank > 0) s.vlevels = i + 1;
    }
    return s;
}

template <typename T, int H> size_t any_bytes(int64_t d_qk, int64_t d_v)
{
    const int64_t n = (d_qk + 2 * TILE + d_v) * H, joining = ANY_THREADS * 4;
    return (size_t)(n > joining ? n : joining) * sizeof(sti_sum_t<T>);
}

/* Blocks of threads that share a multiprocessor, 0 when nothing fits, and the heads of one. */
struct share {
    int blocks, heads;
    tensor_plan m;
};

share share_of(const strata_context *ctx, const sti_attention_shape *s)
{
    const int most = (int)sti_cuda_of(ctx)->smem_optin - 4096, d_qk = (int)s->d_qk, d_v = (int)s->d_v;
    const int heads = s->heads / s->kv_heads <= 8 ? 8 : 16;
    if (s->d_v > 256 || s->d_qk + s->d_v > 4096) return share{};
    for (int blocks = d_v <= 64 ? 3 : 2; blocks >= 1; blocks--) {
        const int stage = (up16(d_qk) + up16(d_v)) * TILE * 2, outputs = warps_of(d_v, heads) * heads * (d_v + 8) * 4;
        tensor_plan m = {};
        m.keys = up16(d_qk);
        m.pitch = m.keys + 8;
        const int rest = 2 * heads * m.pitch * 2 + (d_qk + d_v) * 2;
        m.ring = (most / blocks - 2048 - rest) / 128 * 128;
        m.queries = m.ring;
        m.fresh = m.queries + 2 * heads * m.pitch * 2;
        m.bytes = m.queries + rest;
        if (m.ring >= 2 * stage && m.ring >= outputs) return share{ blocks, heads, m };
    }
    return share{};
}

void launch(const strata_context *ctx, void (*kernel)(job), const job &w, int64_t batch, int threads, size_t bytes)
{
    struct sti_cuda *const c = sti_cuda_of(ctx);
    cudaLaunchAttribute early = {}; /* blocks may be set up while an earlier kernel ends */
    cudaLaunchConfig_t config = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)w.splits, (unsigned)(w.kv_heads * w.turns), (unsigned)batch);
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = bytes;
    config.stream = c->stream;
    config.attrs = &early;
    config.numAttrs = 1;
    if (bytes > 47 << 10)
        sti_cuda_note(
            c, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
            "attention step");
    sti_cuda_note(c, cudaLaunchKernelEx(&config, kernel, w), "attention step");
    sti_launched(ctx, "attention step");
}

template <int HEADS> void (*tensor_kernel(int64_t d_v))(job)
{
    return d_v <= 64 ? attend_tensor<64, HEADS> : d_v <= 128 ? attend_tensor<128, HEADS> : attend_tensor<256, HEADS>;
}

template <typename T> void attend(const strata_context *ctx, job &w, int64_t batch, int heads)
{
    if (heads > 0) {
        w.turns = (w.group + heads - 1) / heads;
        launch(ctx, heads == 8 ? tensor_kernel<8>(w.d_v) : tensor_kernel<16>(w.d_v), w, batch,
               32 * warps_of(w.d_v, heads) + 32, (size_t)w.m.bytes);
    } else if (w.group == 1) {
        w.turns = 1;
        launch(ctx, attend_any<T, 1>, w, batch, ANY_THREADS, any_bytes<T, 1>(w.s.d_qk, w.d_v));
    } else {
        w.turns = (w.group + ANY_HEADS - 1) / ANY_HEADS;
        launch(ctx, attend_any<T, ANY_HEADS>, w, batch, ANY_THREADS, any_bytes<T, ANY_HEADS>(w.s.d_qk, w.d_v));
    }
}

enum { SPLITS = 512 };

/* Stretches of a sequence: the least time, in columns of a tile that pass. `blocks` share a multiprocessor; a tile
 * takes a block `least` at least, and starting and joining have their price. */
int64_t stretches(int64_t pairs, int64_t tiles, int64_t sms, int64_t blocks, int64_t columns, int64_t least)
{
    const int64_t slots = sms * blocks;
    int64_t best = 1, lowest = INT64_MAX, most = 4 * slots / pairs + 1;
    most = most < SPLITS ? most : (int64_t)SPLITS;
    for (int64_t splits = 1; splits <= most && splits <= tiles; splits++) {
        const int64_t each = (tiles + splits - 1) / splits, used = (tiles + each - 1) / each;
        const int64_t waves = (pairs * used + slots - 1) / slots, all = (pairs * used + sms - 1) / sms;
        const int64_t together = (all < blocks ? all : blocks) * columns, tile = together > least ? together : least;
        const int64_t cost =
            waves * (each * (tile + (all == 1 ? 8 : 0)) + 2 * (columns > least ? columns : least)) + used * 18;
        if (cost < lowest) {
            lowest = cost;
            best = used;
        }
    }
    return best;
}

template <typename T>
void step(const strata_context *ctx, const sti_attention_shape *s, const sti_cache_layout *l, const sti_cuda_steps *c)
{
    for (int64_t b0 = 0; b0 < c->batch; b0 += SEQUENCES) {
        const int64_t batch = c->batch - b0 < SEQUENCES ? c->batch - b0 : (int64_t)SEQUENCES;
        const int64_t pairs = batch * s->kv_heads;
        int64_t tiles = 1;
        job w = {};
        w.d_v = (int32_t)s->d_v;
        w.alibi = s->alibi;
        w.heads = s->heads;
        w.kv_heads = s->kv_heads;
        w.group = (int32_t)(s->heads / s->kv_heads);
        w.arrived = l->arrived;
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
            int64_t n = w.pos[b] = c->pos[b0 + b];
            for (int part = 0; part < s->parts; part++) {
                const int64_t reach = s->part[part].level[0].reach;
                const int64_t from = reach < n ? (n - reach + 1) / TILE : 0, count = n / TILE + 1 - from;
                tiles = count > tiles ? count : tiles;
            }
        }
        const share each = sizeof(T) == 2 ? share_of(ctx, s) : share{};
        w.m = each.m;
        const int64_t columns = s->part[0].level[0].rank + s->part[0].level[0].vrank;
        w.splits = (int32_t)stretches(pairs, tiles, sti_cuda_of(ctx)->sms, each.blocks ? each.blocks : 8, columns,
                                      each.blocks ? 128 : 8 * columns);
        w.share = 1.0f / (float)w.splits;
        for (w.part = 0; w.part < s->parts; w.part++) {
            w.s = softmax_of(&s->part[w.part], l, w.part);
            attend<T>(ctx, w, batch, each.heads);
        }
    }
}

template <typename T>
void append(const strata_context *ctx, const sti_attention_shape *s, const sti_cache_layout *l, void *cache,
            int64_t pos, int64_t n, const sti_attention_array *k, const sti_attention_array *v)
{
    for (int part = 0; part < s->parts; part++) {
        const softmax x = softmax_of(&s->part[part], l, part);
        for (int i = 0; i < x.levels; i++) {
            const level &a = x.l[i];
            append_slab<T>(ctx, s, k, x.offset, (char *)cache + a.keys, a.at, a.rank, a.slots, pos, n);
            if (part == 0 && i < x.vlevels)
                append_slab<T>(ctx, s, v, 0, (char *)cache + a.values, a.vat, a.vrank, a.vslots, pos, n);
        }
    }
}

} // namespace

extern "C" size_t sti_attention_cuda_step_work(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                               int64_t batch)
{
    /* stretches: at most 4 slots / pairs + 1 of each of `pairs`, slots as in step */
    const int64_t pairs = (batch < SEQUENCES ? batch : (int64_t)SEQUENCES) * s->kv_heads;
    const int64_t rows = (4 * 8 * (int64_t)sti_cuda_of(ctx)->sms + pairs) * (s->heads / s->kv_heads);
    return (size_t)(rows * result_width(s->d_v)) * (dtype == STRATA_F64 ? sizeof(double) : sizeof(float));
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
