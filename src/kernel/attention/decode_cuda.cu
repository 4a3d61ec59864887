/* One token at a time over the level-separated cache, and filling it.
 *
 * A slab holds blocks of 64 positions (range.h), so the keys, or values, of a level in a block are one run of bytes
 * whatever the ranks, and a tile (a block of all levels as deep as it reaches) arrives in shared memory with one bulk
 * copy a slab. A block of threads owns a stretch of tiles of one (sequence, key head) and up to 16 query heads of the
 * group:
 *
 * attend_tensor (bf16): one warp copies ahead through a ring of stages; four warps own 16 positions of every tile each,
 * with their own running maximum: scores and values are m16n8k16 products with the heads as rows, scaled queries split
 * into two bf16 so that they lose nothing. Warps meet once, at the end. Time is bytes for any group.
 * attend_any (f32, f64, and sizes that do not fit the above): plain sums straight from the cache.
 *
 * Stretches leave unnormalised outputs that merge joins in order. The block that holds the new token writes it to the
 * cache first; nobody else reads that position. */
#include "backend/cuda/cuda.cuh"
#include "backend/cuda/tma.cuh"
#include "kernel/attention/attention_cuda.h"

#include <math.h>

namespace
{

enum {
    LEVELS = STI_ATTENTION_LEVELS,
    SEQUENCES = 256, /* of one launch: their positions are parameters */
    TILE = STI_CACHE_BLOCK,
    ROWS = 16,    /* heads of a block of threads */
    WARPS = 4,    /* that compute */
    STAGES = 8,   /* at most */
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

struct job {
    softmax s;
    int32_t part, parts, splits, d_v, alibi, stages;
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

/* The stretch of a block of threads. */
struct stretch {
    int64_t b, g, t, h0; /* sequence, key head, position of the query, first head */
    int heads;
    int64_t from, to; /* tiles */
    int64_t lo;       /* first position of the level that is this lane's number */
    char *cache;
};

/* First tile of stretch n of the tiles [start, end): stretches have equally many bytes. `first`: this lane's level's.
 */
__device__ __forceinline__ int64_t cut(const job &w, int64_t start, int64_t end, int64_t first, int n)
{
    const softmax &s = w.s;
    int64_t columns = 0, all = 0, left, at = start;
    for (int i = 0; i < s.levels; i++)
        all += (s.l[i].rank + (i < s.vlevels ? s.l[i].vrank : 0)) * (end - __shfl_sync(~0u, first, i));
    left = all * n / w.splits;
    for (int i = 0; i < s.levels; i++) { /* along the stretches of one depth */
        const int64_t next = __shfl_sync(~0u, first, i), before = columns * (next - at);
        if (left < before) break;
        left -= before;
        at = next;
        columns += s.l[i].rank + (i < s.vlevels ? s.l[i].vrank : 0);
    }
    return n >= w.splits ? end : at + left / columns;
}

__device__ __forceinline__ stretch stretch_of(const job &w, int heads)
{
    stretch x;
    const int64_t pair = blockIdx.x / w.splits, split = blockIdx.x % w.splits, group = w.heads / w.kv_heads;
    x.b = pair / w.kv_heads;
    x.g = pair % w.kv_heads;
    x.t = w.pos[x.b];
    x.h0 = x.g * group + (int64_t)blockIdx.y * heads;
    x.heads = (int)min((int64_t)heads, group - (int64_t)blockIdx.y * heads);
    x.cache = w.cache + (size_t)x.b * w.stride;
    x.lo = first_key(w.s, min((int)(threadIdx.x % 32), w.s.levels - 1), x.t);
    const int64_t start = __shfl_sync(~0u, x.lo, 0) / TILE, end = x.t / TILE + 1;
    x.from = cut(w, start, end, x.lo / TILE, (int)split);
    x.to = cut(w, start, end, x.lo / TILE, (int)split + 1);
    return x;
}

/* Where a stretch's results go: d_v outputs, the maximum, the sum. */
template <typename S> __device__ __forceinline__ S *partial(const job &w, const stretch &x, int h)
{
    const int64_t row = ((x.b * w.heads + x.h0 + h) * w.parts + w.part) * w.splits + blockIdx.x % w.splits;
    return (S *)w.work + row * (w.d_v + 2);
}

/* By the first `threads` threads of the block. */
template <typename T> __device__ void write_token(const job &w, const stretch &x, int threads)
{
    const T *k = (const T *)w.k.data + x.b * w.k.batch + x.g * w.k.head + w.s.offset;
    const T *v = (const T *)w.v.data + x.b * w.v.batch + x.g * w.v.head;
    for (int i = 0; i < w.s.levels; i++) {
        const level &l = w.s.l[i];
        for (int c = l.at + threadIdx.x; c < l.at + l.rank; c += threads)
            ((T *)(x.cache + l.keys))[sti_cache_element(l.slots, l.rank, x.g, l.at, c, slot_of(x.t, l.slots))] = k[c];
        for (int c = l.vat + threadIdx.x; i < w.s.vlevels && c < l.vat + l.vrank; c += threads)
            ((T *)(x.cache + l.values))[sti_cache_element(l.vslots, l.vrank, x.g, l.vat, c, slot_of(x.t, l.vslots))] =
                v[c];
    }
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
/* c (16 heads, 8) += a (16, 16) b (16, 8) */
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

__host__ __device__ constexpr int up16(int n)
{
    return (n + 15) / 16 * 16;
}

/* Shared memory: stages of (keys, then values) rows of TILE positions, 128 bytes each; then queries in two parts, rows
 * of `pitch` elements. */
struct tensor_plan {
    int keys, stage, pitch, queries, bytes; /* rows of keys; bytes of a stage; elements; offset; in all */
};

__host__ __device__ tensor_plan tensor_plan_of(int d_qk, int d_v, int stages)
{
    tensor_plan p;
    p.keys = up16(d_qk);
    p.stage = (p.keys + up16(d_v)) * TILE * 2;
    p.pitch = p.keys + 8;
    const int outputs = WARPS * ROWS * (d_v + 8) * 4; /* where the warps meet at last */
    p.queries = p.stage * stages > outputs ? p.stage * stages : outputs;
    p.bytes = p.queries + 2 * ROWS * p.pitch * 2;
    return p;
}

/* The 16 positions from p0 of rows [from, to) before `lo` become zero: two vectors a row. */
__device__ __forceinline__ void clear_rows(char *rows, int from, int to, int chunk, int64_t p0, int64_t lo)
{
    for (int i = threadIdx.x % 32; i < (to - from) * 2; i += 32) {
        const int row = from + i / 2, c = chunk + i % 2;
        __nv_bfloat16 *const at = (__nv_bfloat16 *)(rows + row * (TILE * 2) + ((c ^ (row & 7)) << 4));
        for (int e = 0; e < 8; e++)
            if (p0 + i % 2 * 8 + e < lo) at[e] = __float2bfloat16_rn(0.0f);
    }
}

/* A tile of all levels on its way to its stage. One thread. */
__device__ __forceinline__ void fetch(const job &w, const tensor_plan &m, const stretch &x, const int64_t *lo,
                                      const uint64_t *full, const uint64_t *empty, int64_t tile)
{
    extern __shared__ __align__(128) char raw[];
    const softmax &s = w.s;
    const int n = (int)(tile - x.from), at = n % w.stages;
    const uint32_t bar = sti_smem(&full[at]), to = sti_smem(raw) + at * m.stage;
    uint32_t bytes = 0;
    sti_mbar_wait(sti_smem(&empty[at]), (uint32_t)(n / w.stages & 1) ^ 1);
    for (int i = 0; i < s.levels && lo[i] < (tile + 1) * TILE; i++)
        bytes += s.l[i].rank + (i < s.vlevels ? s.l[i].vrank : 0);
    sti_mbar_expect(bar, bytes * TILE * 2);
    for (int i = 0; i < s.levels && lo[i] < (tile + 1) * TILE; i++) {
        const level &l = s.l[i];
        const int64_t block = x.g * (l.slots / TILE) + slot_of(tile * TILE, l.slots) / TILE;
        bulk_load(to + l.at * TILE * 2, x.cache + l.keys + block * l.rank * TILE * 2, l.rank * TILE * 2, bar);
        if (i >= s.vlevels || l.vrank == 0) continue;
        const int64_t vblock = x.g * (l.vslots / TILE) + slot_of(tile * TILE, l.vslots) / TILE;
        bulk_load(to + (m.keys + l.vat) * TILE * 2, x.cache + l.values + vblock * l.vrank * TILE * 2,
                  l.vrank * TILE * 2, bar);
    }
}

template <int DV>
__global__ void __launch_bounds__(32 * WARPS + 32, DV == 64 ? 4 : 2) attend_tensor(const __grid_constant__ job w)
{
    extern __shared__ __align__(128) char raw[];
    __shared__ __align__(8) uint64_t full[STAGES], empty[STAGES];
    __shared__ int64_t lo[LEVELS];
    __shared__ float tops[WARPS][ROWS], sums[WARPS][ROWS];
    const softmax &s = w.s;
    const tensor_plan m = tensor_plan_of(s.d_qk, w.d_v, w.stages);
    const stretch x = stretch_of(w, ROWS);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    asm volatile("griddepcontrol.launch_dependents;");      /* merge may be set up; it waits for the end of this grid */
    const bool newest = x.from < x.to && x.to * TILE > x.t; /* this stretch has the new token */
    if (warp == WARPS) {
        if (lane < s.levels) lo[lane] = x.lo;
        if (lane == 0) {
            for (int i = 0; i < w.stages; i++) {
                sti_mbar_init(sti_smem(&full[i]), 1);
                sti_mbar_init(sti_smem(&empty[i]), WARPS);
            }
            sti_mbar_init_fence();
        }
        __syncwarp();
        int64_t tile = x.from;
        if (lane == 0) /* what needs no other thread is under way at once */
            for (; tile < min(x.to - newest, x.from + w.stages); tile++) fetch(w, m, x, lo, full, empty, tile);
        __syncthreads();
        if (lane == 0)
            for (; tile < x.to; tile++) fetch(w, m, x, lo, full, empty, tile);
        return; /* its copies have landed before the others are through */
    }
    if (newest) {
        write_token<sti_bf16>(w, x, 32 * WARPS);
        asm volatile("fence.proxy.async;" ::: "memory"); /* bulk copies will read it */
    }
    __syncthreads();

    sti_bf16 *const high = (sti_bf16 *)(raw + m.queries), *const low = high + ROWS * m.pitch;
    for (int i = 0; i < s.levels; i++)
        for (int n = threadIdx.x; n < s.l[i].rank * ROWS; n += 32 * WARPS) {
            const int h = n / s.l[i].rank, c = s.l[i].at + n % s.l[i].rank;
            float q = 0;
            if (h < x.heads)
                q = sti_get(((const sti_bf16 *)w.q.data)[x.b * w.q.batch + (x.h0 + h) * w.q.head + s.offset + c]) *
                    (float)s.l[i].scale * base<float>();
            high[h * m.pitch + c] = sti_put<sti_bf16>(q);
            low[h * m.pitch + c] = sti_put<sti_bf16>(q - sti_get(high[h * m.pitch + c]));
        }
    for (int n = threadIdx.x; n < (m.keys - s.d_qk) * ROWS; n += 32 * WARPS) {
        const int at = n % ROWS * m.pitch + s.d_qk + n / ROWS;
        high[at] = low[at] = sti_put<sti_bf16>(0.0f);
    }
    sti_bar_sync(1, 32 * WARPS);

    float o[DV / 8][4], top[2] = { -INFINITY, -INFINITY }, sum[2] = { 0, 0 };
#pragma unroll
    for (int i = 0; i < DV / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) o[i][j] = 0;
    const float slope[2] = { slope_of<float>(w, x.h0 + lane / 4), slope_of<float>(w, x.h0 + lane / 4 + 8) };
    const uint32_t query = (uint32_t)((lane % 16 * m.pitch + lane / 16 * 8) * 2); /* a row of ldmatrix */
    const uint32_t high_at = sti_smem(high) + query, low_at = sti_smem(low) + query;
    const int row = lane % 8 + (lane / 8 % 2) * 8, key_chunk = warp * 2 + lane / 16;    /* of keys */
    const int vrow = lane % 8 + lane / 16 * 8, value_chunk = warp * 2 + (lane / 8 % 2); /* of values */

    for (int64_t tile = x.from, n = 0; tile < x.to; tile++, n++) {
        const int at = (int)(n % w.stages);
        char *const stage = raw + at * m.stage, *const values = stage + m.keys * TILE * 2;
        const int64_t p0 = tile * TILE + warp * 16;
        int depth = 1;
        while (depth < s.levels && lo[depth] < (tile + 1) * TILE) depth++;
        const int columns = s.l[depth - 1].at + s.l[depth - 1].rank, vdepth = min(depth, s.vlevels);
        const int vcolumns = s.l[vdepth - 1].vat + s.l[vdepth - 1].vrank;
        bool cleared = columns % 16 != 0 || vcolumns % 16 != 0;
        sti_mbar_wait(sti_smem(&full[at]), (uint32_t)(n / w.stages & 1));
        if (cleared) { /* whole k steps; the stage may hold deeper columns of an earlier tile */
            clear_rows(stage, columns, up16(columns), warp * 2, 0, 16);
            clear_rows(values, vcolumns, up16(vcolumns), warp * 2, 0, 16);
        }
        for (int i = 1; i < depth; i++)
            if (p0 < lo[i]) { /* what lies before a level */
                clear_rows(stage, s.l[i].at, s.l[i].at + s.l[i].rank, warp * 2, p0, lo[i]);
                if (i < s.vlevels) clear_rows(values, s.l[i].vat, s.l[i].vat + s.l[i].vrank, warp * 2, p0, lo[i]);
                cleared = true;
            }
        if (cleared) __syncwarp();

        float c[2][4] = {};
        for (int k = 0; k < columns; k += 16) {
            uint32_t a[4], b[4], r[4];
            const uint32_t line = (uint32_t)(k + row);
            load_transposed(b, sti_smem(stage) + line * 128 + ((key_chunk ^ (line & 7)) << 4));
            load_matrices(a, high_at + k * 2);
            load_matrices(r, low_at + k * 2);
            multiply(c[0], a, b[0], b[1]);
            multiply(c[1], a, b[2], b[3]);
            multiply(c[0], r, b[0], b[1]);
            multiply(c[1], r, b[2], b[3]);
        }
        float best[2] = { top[0], top[1] };
        const bool edge = p0 < lo[0] || p0 + 15 > x.t;
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int64_t p = p0 + j * 8 + lane % 4 * 2 + e;
                if (s.varies) {
                    float f = (float)s.gain[1];
                    for (int i = 1; i < depth; i++)
                        if (p >= lo[i]) f = (float)s.gain[i + 1];
                    c[j][e] *= f;
                    c[j][e + 2] *= f;
                }
                if (w.alibi) {
                    c[j][e] -= slope[0] * (float)(x.t - p);
                    c[j][e + 2] -= slope[1] * (float)(x.t - p);
                }
                if (edge && (p < lo[0] || p > x.t)) c[j][e] = c[j][e + 2] = -INFINITY;
                best[0] = fmaxf(best[0], c[j][e]);
                best[1] = fmaxf(best[1], c[j][e + 2]);
            }
        float keep[2], from[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            best[i] = fmaxf(best[i], __shfl_xor_sync(0xffffffffu, best[i], 1));
            best[i] = fmaxf(best[i], __shfl_xor_sync(0xffffffffu, best[i], 2));
            from[i] = best[i] == -INFINITY ? 0.0f : best[i];
            keep[i] = power(top[i] - from[i]);
            top[i] = best[i];
            sum[i] *= keep[i];
        }
        if (__any_sync(0xffffffffu, keep[0] != 1.0f || keep[1] != 1.0f))
#pragma unroll
            for (int i = 0; i < DV / 8; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) o[i][j] *= keep[j / 2];
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[e / 2] += c[j][e] = power(c[j][e] - from[e / 2]);
        const uint32_t p[4] = { pack(c[0][0], c[0][1]), pack(c[0][2], c[0][3]), pack(c[1][0], c[1][1]),
                                pack(c[1][2], c[1][3]) };
#pragma unroll
        for (int d = 0; d < DV; d += 16) {
            if (d >= vcolumns) break;
            uint32_t b[4];
            const uint32_t line = (uint32_t)(d + vrow);
            load_matrices(b, sti_smem(values) + line * 128 + ((value_chunk ^ (line & 7)) << 4));
            multiply(o[d / 8], p, b[0], b[1]);
            multiply(o[d / 8 + 1], p, b[2], b[3]);
        }
        if (cleared) sti_fence_async(); /* the next copy overwrites what was cleared */
        __syncwarp();
        if (lane == 0) sti_mbar_arrive(sti_smem(&empty[at]));
    }

    /* The warps meet: outputs under the common maximum, summed in order. */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
        if (lane % 4 == 0) {
            tops[warp][lane / 4 + 8 * i] = top[i];
            sums[warp][lane / 4 + 8 * i] = sum[i];
        }
    }
    sti_bar_sync(1, 32 * WARPS); /* every stage is read */
    float *const out = (float *)raw;
    const int wide = w.d_v + 8;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int h = lane / 4 + 8 * i;
        float all = tops[0][h];
        for (int n = 1; n < WARPS; n++) all = fmaxf(all, tops[n][h]);
        const float f = all == -INFINITY ? 0.0f : power(top[i] - all);
        if (h >= x.heads) continue;
#pragma unroll
        for (int d = 0; d < DV / 8; d++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int column = d * 8 + lane % 4 * 2 + e;
                if (column < w.d_v) out[(warp * ROWS + h) * wide + column] = o[d][2 * i + e] * f;
            }
    }
    sti_bar_sync(1, 32 * WARPS);
    for (int n = threadIdx.x; n < x.heads * w.d_v; n += 32 * WARPS) {
        const int h = n / w.d_v, c = n % w.d_v;
        float y = 0, all = tops[0][h], total = 0;
        for (int i = 0; i < WARPS; i++) y += out[(i * ROWS + h) * wide + c];
        for (int i = 1; i < WARPS; i++) all = fmaxf(all, tops[i][h]);
        for (int i = 0; i < WARPS; i++) total += all == -INFINITY ? 0.0f : sums[i][h] * power(tops[i][h] - all);
        if (w.splits == 1 && w.parts == 1) {
            ((sti_bf16 *)w.o.data)[x.b * w.o.batch + (x.h0 + h) * w.o.head + c] = sti_put<sti_bf16>(y / total);
            continue;
        }
        float *const to = partial<float>(w, x, h);
        to[c] = y;
        if (c == 0) {
            to[w.d_v] = all;
            to[w.d_v + 1] = total;
        }
    }
}

/* ---- any type and size --------------------------------------------------------------------------------------------
 */

enum { ANY_THREADS = 128 };

template <typename T, int H> __global__ void __launch_bounds__(ANY_THREADS) attend_any(const __grid_constant__ job w)
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
    if (x.from < x.to && x.to * TILE > x.t) write_token<T>(w, x, ANY_THREADS);
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
    for (int64_t tile = x.from; tile < x.to; tile++) {
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
        S *const to = partial<S>(w, x, i / w.d_v);
        to[i % w.d_v] = o[i];
        if (i % w.d_v == 0) {
            to[w.d_v] = top[i / w.d_v];
            to[w.d_v + 1] = sum[i / w.d_v];
        }
    }
}

/* ---- joining stretches --------------------------------------------------------------------------------------------
 */

enum { MERGE_THREADS = 256, MERGE_DEPTH = 16 };

/* o = the stretches of each softmax joined; the softmaxes add up. A block for a row; groups of threads share the
 * stretches of a column, whose outputs are on their way before their weights are known. */
template <typename T> __global__ void __launch_bounds__(MERGE_THREADS) merge(const __grid_constant__ job w)
{
    typedef sti_sum_t<T> S;
    extern __shared__ __align__(128) char raw[];
    __shared__ S shared[32];
    S *const f = (S *)raw, *const sums = f + w.splits; /* weights of the stretches; a sum for each thread */
    const int64_t b = blockIdx.x / w.heads, h = blockIdx.x % w.heads;
    const int stride = w.d_v + 2, wide = min((w.d_v + 31) / 32 * 32, (int)MERGE_THREADS), groups = MERGE_THREADS / wide,
              group = threadIdx.x / wide, column = threadIdx.x % wide;
    T *const o = (T *)w.o.data + b * w.o.batch + h * w.o.head;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int part = 0; part < w.parts; part++) {
        const S *x = (const S *)w.work + ((int64_t)blockIdx.x * w.parts + part) * w.splits * stride;
        for (int first = 0; first < w.d_v; first += wide) {
            const int c = first + column;
            const bool in = c < w.d_v && group < groups;
            S ahead[MERGE_DEPTH], top = S(-INFINITY), sum = S(0), y = S(0);
#pragma unroll
            for (int i = 0; i < MERGE_DEPTH; i++) {
                const int n = group + i * groups;
                ahead[i] = in && n < w.splits ? x[n * stride + c] : S(0);
            }
            for (int n = threadIdx.x; n < w.splits; n += MERGE_THREADS) top = max(top, x[n * stride + w.d_v]);
            top = sti_block_max(top, shared);
            __syncthreads();
            for (int n = threadIdx.x; n < w.splits; n += MERGE_THREADS) {
                f[n] = power(x[n * stride + w.d_v] - top);
                sum += f[n] * x[n * stride + w.d_v + 1];
            }
            sum = sti_block_sum(sum, shared);
            __syncthreads();
#pragma unroll
            for (int i = 0; i < MERGE_DEPTH; i++)
                if (group + i * groups < w.splits) y += f[group + i * groups] * ahead[i];
            if (in)
#pragma unroll 8
                for (int n = group + MERGE_DEPTH * groups; n < w.splits; n += groups) y += f[n] * x[n * stride + c];
            sums[threadIdx.x] = y;
            __syncthreads();
            if (in && group == 0) {
                for (int i = 1; i < groups; i++) y += sums[i * wide + column];
                y /= sum;
                if (part > 0) y += S(sti_get(o[c]));
                o[c] = sti_put<T>(y);
            }
            __syncthreads();
        }
    }
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
    return (size_t)((d_qk + 2 * TILE + d_v) * H) * sizeof(sti_sum_t<T>);
}

/* Blocks of threads that share a multiprocessor, and their stages: many for narrow heads, whose tiles are short; both 0
 * when nothing fits. */
struct share {
    int blocks, stages;
};

share share_of(const strata_context *ctx, int64_t d_qk, int64_t d_v)
{
    const int most = (int)sti_cuda_of(ctx)->smem_optin - 4096;
    if (d_v > 256 || d_qk + d_v > 4096) return share{ 0, 0 };
    for (int blocks = d_v <= 64 ? 4 : 2; blocks >= 1; blocks--)
        for (int n = STAGES; n >= (blocks > 2 ? 3 : 2); n--)
            if (tensor_plan_of((int)d_qk, (int)d_v, n).bytes <= most / blocks - 1024) return share{ blocks, n };
    return share{ 0, 0 };
}

void allow(const strata_context *ctx, const void *kernel, size_t bytes)
{
    if (bytes > 47 << 10)
        sti_cuda_note(sti_cuda_of(ctx),
                      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                      "attention step");
}

template <typename T> void attend(const strata_context *ctx, const job &w, int64_t pairs)
{
    const int64_t group = w.heads / w.kv_heads;
    if (w.stages > 0) {
        const size_t bytes = (size_t)tensor_plan_of(w.s.d_qk, w.d_v, w.stages).bytes;
        void (*kernel)(job) = w.d_v <= 64 ? attend_tensor<64> : w.d_v <= 128 ? attend_tensor<128> : attend_tensor<256>;
        allow(ctx, (const void *)kernel, bytes);
        kernel<<<dim3((unsigned)(pairs * w.splits), (unsigned)((group + ROWS - 1) / ROWS)), 32 * WARPS + 32, bytes,
                 sti_stream(ctx)>>>(w);
    } else {
        const bool one = group == 1;
        const size_t bytes = one ? any_bytes<T, 1>(w.s.d_qk, w.d_v) : any_bytes<T, ANY_HEADS>(w.s.d_qk, w.d_v);
        const int64_t turns = one ? 1 : (group + ANY_HEADS - 1) / ANY_HEADS;
        void (*kernel)(job) = one ? attend_any<T, 1> : attend_any<T, ANY_HEADS>;
        allow(ctx, (const void *)kernel, bytes);
        kernel<<<dim3((unsigned)(pairs * w.splits), (unsigned)turns), ANY_THREADS, bytes, sti_stream(ctx)>>>(w);
    }
    sti_launched(ctx, "attention step");
}

enum { SPLITS = 512 };

/* Stretches of a sequence: the least time when `slots` blocks run at once and each starts with the time of two tiles.
 */
int64_t stretches(int64_t pairs, int64_t tiles, int64_t slots)
{
    int64_t best = 1, least = INT64_MAX, most = 4 * slots / pairs + 1;
    most = most < SPLITS ? most : (int64_t)SPLITS;
    for (int64_t splits = 1; splits <= most && splits <= tiles; splits++) {
        const int64_t each = (tiles + splits - 1) / splits, used = (tiles + each - 1) / each;
        const int64_t cost = (pairs * used + slots - 1) / slots * (each + 2);
        if (cost < least) {
            least = cost;
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
            int64_t n = w.pos[b] = c->pos[b0 + b];
            for (int part = 0; part < s->parts; part++) {
                const int64_t reach = s->part[part].level[0].reach;
                const int64_t from = reach < n ? (n - reach + 1) / TILE : 0, count = n / TILE + 1 - from;
                tiles = count > tiles ? count : tiles;
            }
        }
        const share each = sizeof(T) == 2 ? share_of(ctx, s->d_qk, s->d_v) : share{ 0, 0 };
        w.stages = each.stages;
        w.splits = (int32_t)stretches(pairs, tiles, (int64_t)sti_cuda_of(ctx)->sms * (w.stages > 0 ? each.blocks : 8));
        for (w.part = 0; w.part < s->parts; w.part++) {
            w.s = softmax_of(&s->part[w.part], l, w.part);
            attend<T>(ctx, w, pairs);
        }
        if (w.stages > 0 && w.splits == 1 && w.parts == 1) continue; /* written by attend_tensor */
        cudaLaunchAttribute early = {};
        early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        early.val.programmaticStreamSerializationAllowed = 1;
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3((unsigned)(batch * s->heads));
        config.blockDim = dim3(MERGE_THREADS);
        config.dynamicSmemBytes = (size_t)(w.splits + MERGE_THREADS) * sizeof(sti_sum_t<T>);
        config.stream = sti_stream(ctx);
        config.attrs = &early;
        config.numAttrs = 1;
        sti_cuda_note(sti_cuda_of(ctx), cudaLaunchKernelEx(&config, merge<T>, w), "attention merge");
        sti_launched(ctx, "attention merge");
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
    const int64_t rows = (4 * 8 * (int64_t)sti_cuda_of(ctx)->sms + pairs) * (s->heads / s->kv_heads) * s->parts;
    return (size_t)(rows * (s->d_v + 2)) * (dtype == STRATA_F64 ? sizeof(double) : sizeof(float));
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
