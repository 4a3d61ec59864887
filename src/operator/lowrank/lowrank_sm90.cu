/* y = alpha (x A) B^T + beta y on Hopper, z = x A kept on chip (README.md, "On Hopper"). A producer warp streams panels
 * of 64 columns of x beside 64 rows of A through a ring in shared memory, then tiles of B; every consumer warpgroup
 * owns 64 rows, sums z in registers, rounds it to bf16, and as the left operand of the second product it stays there.
 *
 * Many rows: a block takes panels of 128 rows one after the other. Fewer: the blocks of a cluster share a panel;
 * each sums a slice of the columns of x, the partial sums of a row are added up, in the blocks' order, by the block
 * that owns the row and given to all, and each writes a slice of the columns of y. */
#include <algorithm>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <string.h>

#include "backend/cuda/cuda.cuh"
#include "backend/cuda/tma.cuh"
#include "backend/cuda/wgmma.cuh"
#include "operator/lowrank/lowrank_sm90.h"

namespace
{
enum { MAX_SLOTS = 16, BOX = 64 * 128 /* bytes of 64 rows of 64 columns */, MAX_STAGES = 2 };

struct params {
    CUtensorMap x, a, b, y, z;
    int32_t count, width;  /* rows; columns of y */
    int32_t blocks, tiles; /* 64 columns of x each; NB columns of y each */
    int32_t panels, split; /* of rows; blocks of a cluster, which share a panel */
    int32_t slots, slot_bytes, x_rows;
    int32_t own_log, pitch; /* rows a block owns of a cluster's panel; floats of a row of partial sums */
    int32_t rank;
    float alpha, beta;
    sti_bf16 *zout; /* NULL: not wanted */
};

template <int RP_, int WGS_> struct config {
    static constexpr int RP = RP_, WGS = WGS_; /* rank, padded to whole boxes; consumer warpgroups */
    static constexpr int PANELS = RP / 64, STEPS = RP / 16;
    static constexpr int NT = WGS == 2 ? 128 : 256; /* columns of y that a warpgroup writes at a time */
    static constexpr int NB = WGS == 2 ? 128 : 64;  /* rows of B in a slot */
    static constexpr int UP = WGS == 1 ? PANELS : PANELS == 3 ? 1 : PANELS < 2 ? PANELS : 2; /* boxes across */
    static constexpr int CHUNKS = PANELS / UP;                                               /* slots for all of them */
    static constexpr int A_BYTES = PANELS * BOX, B_BYTES = UP * NB * 128;
    static constexpr int STAGES = WGS == 1 || RP > 192 ? 1 : 2; /* tiles of y on their way out: 1 or 2 */
    static constexpr int TILE = NT * 128;                       /* bytes of a warpgroup's tile */
    static constexpr bool SPLITS = WGS == 1 || RP <= 128;       /* shared memory holds what is exchanged */
    static constexpr int THREADS = WGS * 128 + (WGS == 1 ? 32 : 128);
};

struct ring {
    int slot = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void step(int slots)
    {
        if (++slot == slots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/* Shared memory: slots of the ring, tiles of y, barriers; what a cluster exchanges stands where tiles of y come later.
 */
template <class C> struct memory {
    uint32_t base, tiles, bars;
    int slot_bytes;
    __device__ __forceinline__ memory(const params &p, const unsigned char *raw)
    {
        bars = (sti_smem(raw) + 1023) & ~1023u;
        base = bars + 1024;
        slot_bytes = p.slot_bytes;
        tiles = base + p.slots * p.slot_bytes;
    }
    __device__ __forceinline__ uint32_t full(int s) const { return bars + 8 * s; }
    __device__ __forceinline__ uint32_t empty(int s) const { return bars + 8 * (MAX_SLOTS + s); }
    __device__ __forceinline__ uint32_t parts_in() const { return bars + 16 * MAX_SLOTS; }
    __device__ __forceinline__ uint32_t z_in() const { return bars + 16 * MAX_SLOTS + 8; }
    __device__ __forceinline__ uint32_t y_in(int wg, int stage) const
    {
        return bars + 16 * MAX_SLOTS + 16 + 8 * (MAX_STAGES * wg + stage);
    }
    __device__ __forceinline__ uint32_t slot(int s) const { return base + s * slot_bytes; }
};

/* A block's share of a panel: slice `i` of n things. */
struct share {
    int first, last;
};
__device__ __forceinline__ share share_of(int n, int i, int parts)
{
    return { (int)((int64_t)n * i / parts), (int)((int64_t)n * (i + 1) / parts) };
}

/* ---- producer --------------------------------------------------------------------------------------------------- */

template <class C> __device__ __forceinline__ void produce(const params &p, const memory<C> &m, int rank)
{
    const share in = share_of(p.blocks, rank, p.split), out = share_of(p.tiles, rank, p.split);
    const int x_bytes = p.x_rows * 128, step = (int)gridDim.x / p.split;
    ring r;
    for (int panel = (int)blockIdx.x / p.split; panel < p.panels; panel += step) {
        for (int k = in.first; k < in.last; k++, r.step(p.slots)) {
            const uint32_t full = m.full(r.slot), at = m.slot(r.slot);
            sti_mbar_wait(m.empty(r.slot), r.parity ^ 1);
            sti_mbar_expect(full, x_bytes + C::A_BYTES);
            sti_tma_load_once(at, &p.x, full, k * 64, panel * 64 * C::WGS, 0, 0);
            for (int i = 0; i < C::PANELS; i++) sti_tma_load(at + x_bytes + i * BOX, &p.a, full, i * 64, k * 64, 0, 0);
        }
        for (int t = out.first; t < out.last; t++)
            for (int c = 0; c < C::CHUNKS; c++, r.step(p.slots)) {
                const uint32_t full = m.full(r.slot), at = m.slot(r.slot);
                sti_mbar_wait(m.empty(r.slot), r.parity ^ 1);
                sti_mbar_expect(full, C::B_BYTES);
                for (int i = 0; i < C::UP; i++)
                    sti_tma_load(at + i * C::NB * 128, &p.b, full, (c * C::UP + i) * 64, t * C::NB, 0, 0);
            }
    }
}

__device__ __forceinline__ void load_matrices(uint32_t *v, uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(at)
                 : "memory");
}

/* ---- consumers -------------------------------------------------------------------------------------------------- */

template <class C> struct consumer {
    const params &p;
    const memory<C> &m;
    int wg, thread, warp, lane, rank;
    ring r;
    int stage = 0;
    uint32_t y_parity = 0;

    __device__ __forceinline__ consumer(const params &params_, const memory<C> &memory_, int rank_)
        : p(params_), m(memory_), rank(rank_)
    {
        wg = threadIdx.x / 128;
        thread = threadIdx.x % 128;
        warp = thread / 32;
        lane = thread % 32;
    }
    __device__ __forceinline__ void sync() const { sti_bar_sync(1 + wg, 128); }
    __device__ __forceinline__ void release(int slot) const
    {
        if (thread == 0) sti_mbar_arrive(m.empty(slot));
    }
    /* Byte of the 16 columns from 16 g on, in tiles of 64 columns of `rows` rows, for four 8 x 8 matrices. */
    __device__ __forceinline__ uint32_t fragment(int g, int rows) const
    {
        return (g / 4) * rows * 128 + sti_swizzle(warp * 16 + lane % 16, (g % 4) * 2 + lane / 16);
    }
    __device__ __forceinline__ uint32_t tile() const { return m.tiles + (wg * C::STAGES + stage) * C::TILE; }

    /* Old values of a tile of y, into the memory that it leaves from. */
    __device__ __forceinline__ void want(int row, int column, int end) const
    {
        if (thread != 0) return;
        const int boxes = min(C::NT / 64, (end - column + 63) / 64);
        sti_tma_store_wait_read<C::STAGES - 1>();
        sti_mbar_expect(m.y_in(wg, stage), boxes * BOX);
        for (int i = 0; i < boxes; i++)
            sti_tma_load(tile() + i * BOX, &p.y, m.y_in(wg, stage), column + i * 64, row, 0, 0);
    }
    /* Columns [column, end), at most N, to an array: f(g, at, v) gives 16 of them. */
    template <int N = C::NT, class F>
    __device__ __forceinline__ void put(const CUtensorMap *map, int row, int column, int end, F f)
    {
        const uint32_t to = tile();
#pragma unroll
        for (int g = 0; g < N / 16; g++) {
            uint32_t v[4];
            const uint32_t at = to + fragment(g, 64);
            f(g, at, v);
            sti_stmatrix(at, v);
        }
        sti_fence_async();
        if (C::STAGES > 1 && thread == 0) sti_tma_store_wait_read<0>();
        sync(); /* this tile is whole, and the next one's memory is free */
        if (thread == 0) {
            for (int i = 0; i < N / 64; i++)
                if (column + i * 64 < end && row < p.count)
                    sti_tma_store_once(map, to + i * BOX, column + i * 64, row, 0, 0);
            sti_tma_store_commit();
        }
        stage = stage + 1 == C::STAGES ? 0 : stage + 1;
    }
    /* Before put; where there are two tiles, the last put has seen to it. */
    __device__ __forceinline__ void free_tile() const
    {
        if (C::STAGES > 1) return;
        if (thread == 0) sti_tma_store_wait_read<0>();
        sync();
    }

    /* z of the warpgroup's rows over a slice of the columns of x. */
    __device__ __forceinline__ void first(float (&d)[C::RP / 2], share in)
    {
        const uint32_t x_bytes = p.x_rows * 128;
        int last = 0;
        for (int k = in.first; k < in.last; k++) {
            sti_mbar_wait(m.full(r.slot), r.parity);
            const uint32_t at = m.slot(r.slot);
            const uint64_t x = sti_wgmma_k(at + wg * BOX), a = sti_wgmma_mn(at + x_bytes, BOX);
            sti_wgmma_fence();
#pragma unroll
            for (int s = 0; s < 4; s++)
                sti_wgmma_ss<C::RP, 0, 1>(d, sti_wgmma_at(x, 32 * s), sti_wgmma_at(a, 2048 * s), k > in.first || s > 0);
            sti_wgmma_commit();
            if (k > in.first) {
                sti_wgmma_wait<1>();
                release(last);
            }
            last = r.slot;
            r.step(p.slots);
        }
        sti_wgmma_wait<0>();
        release(last);
        sti_wgmma_pin(d);
    }

    /* Partial sums to the rows' owners, whole sums to everybody. */
    __device__ __forceinline__ void exchange(const float (&d)[C::RP / 2], int row, uint32_t (&z)[C::RP / 4])
    {
        const int rows = min(64 * C::WGS, p.count - row), own = 1 << p.own_log,
                  mine = min(max(rows - rank * own, 0), own);
        const uint32_t zs = m.tiles, in = zs + C::PANELS * p.x_rows * 128;
        __syncwarp();
        sti_cluster_wait(); /* every block has begun */
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int at = wg * 64 + warp * 16 + lane / 4 + 8 * h;
            if (at >= rows) continue;
            const int owner = at >> p.own_log, line = rank * own + (at & (own - 1));
            const uint32_t to = sti_cluster_smem(in + (line * p.pitch + lane % 4 * 2) * 4, owner),
                           bar = sti_cluster_smem(m.parts_in(), owner);
#pragma unroll
            for (int i = 0; i < C::RP / 8; i++)
                sti_cluster_put2(to + 32 * i, bar, d[4 * i + 2 * h], d[4 * i + 2 * h + 1]);
        }
        if (mine > 0) {
            sti_cluster_mbar_wait(m.parts_in(), 0);
            for (int i = wg * 128 + thread; i < mine * (C::RP / 8); i += 128 * C::WGS) {
                const int line = i / (C::RP / 8), chunk = i % (C::RP / 8), at = rank * own + line;
                float sum[8] = {};
                for (int c = 0; c < p.split; c++) {
                    const uint32_t from = in + ((c * own + line) * p.pitch + chunk * 8) * 4;
                    float v[8];
                    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                                 : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3])
                                 : "r"(from)
                                 : "memory");
                    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                                 : "=f"(v[4]), "=f"(v[5]), "=f"(v[6]), "=f"(v[7])
                                 : "r"(from + 16)
                                 : "memory");
#pragma unroll
                    for (int e = 0; e < 8; e++) sum[e] += v[e];
                }
                uint32_t v[4];
#pragma unroll
                for (int e = 0; e < 4; e++) v[e] = sti_pack_bf16(sum[2 * e], sum[2 * e + 1]);
                if (p.zout && chunk * 8 < p.rank)
                    *(uint4 *)(p.zout + (int64_t)(row + at) * p.rank + chunk * 8) = make_uint4(v[0], v[1], v[2], v[3]);
                const uint32_t to = zs + chunk / 8 * p.x_rows * 128 + sti_swizzle(at, chunk % 8);
                for (int c = 0; c < p.split; c++)
                    sti_cluster_put4(sti_cluster_smem(to, c), sti_cluster_smem(m.z_in(), c), v);
            }
        }
        sti_cluster_mbar_wait(m.z_in(), 0);
#pragma unroll
        for (int g = 0; g < C::STEPS; g++) load_matrices(z + 4 * g, zs + wg * BOX + fragment(g, p.x_rows));
        __syncwarp();
        sti_cluster_arrive(); /* nothing more comes in here */
        sti_fence_async();
        sti_bar_sync(1 + C::WGS, 128 * C::WGS); /* tiles of y take the place */
    }

    __device__ __forceinline__ void keep(const float (&d)[C::RP / 2], int row, uint32_t (&z)[C::RP / 4])
    {
#pragma unroll
        for (int s = 0; s < C::STEPS; s++) sti_wgmma_pack(z + 4 * s, d, s);
        if (!p.zout) return;
        constexpr int N = C::NT < C::RP ? C::NT : C::RP;
#pragma unroll
        for (int t = 0; t * N < C::RP; t++) {
            free_tile();
            put<N>(&p.z, row, t * N, p.rank, [&](int g, uint32_t, uint32_t(&v)[4]) {
                const int s = t * (N / 16) + g;
#pragma unroll
                for (int i = 0; i < 4; i++) v[i] = s < C::STEPS ? z[s < C::STEPS ? 4 * s + i : 0] : 0;
            });
        }
    }

    /* Products of a slot with some of z's columns. */
    template <int COUNT>
    __device__ __forceinline__ void multiply(float (&d)[COUNT], const uint32_t (&z)[C::RP / 4], int chunk)
    {
        sti_mbar_wait(m.full(r.slot), r.parity);
        const uint64_t b = sti_wgmma_k(m.slot(r.slot));
        sti_wgmma_fence();
#pragma unroll
        for (int s = 0; s < 4 * C::UP; s++)
            sti_wgmma_rs<C::NB, 0>(d, z + 4 * (4 * C::UP * chunk + s),
                                   sti_wgmma_at(b, (s / 4) * C::NB * 128 + (s % 4) * 32), chunk > 0 || s > 0);
        sti_wgmma_commit();
        r.step(p.slots);
    }
    /* 16 columns as they leave: alpha d + beta y, the old y where the new one shall stand. */
    __device__ __forceinline__ void finish(const float *d, uint32_t at, uint32_t (&v)[4]) const
    {
        float e[8];
#pragma unroll
        for (int i = 0; i < 8; i++) e[i] = p.alpha * d[i];
        if (p.beta != 0) {
            load_matrices(v, at);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 old = __bfloat1622float2(*(const __nv_bfloat162 *)&v[i]);
                e[2 * i] += p.beta * old.x;
                e[2 * i + 1] += p.beta * old.y;
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = sti_pack_bf16(e[2 * i], e[2 * i + 1]);
    }
    __device__ __forceinline__ void await_old()
    {
        if (p.beta == 0) return;
        sti_mbar_wait(m.y_in(wg, stage), y_parity >> stage & 1);
        y_parity ^= 1u << stage;
    }
    __device__ __forceinline__ void release_before(int slots) /* the oldest of the last `slots` */
    {
        const int slot = r.slot - slots;
        release(slot < 0 ? slot + p.slots : slot);
    }

    template <int COUNT> __device__ __forceinline__ void leave(float (&d)[COUNT], int t, int row)
    {
        sti_wgmma_pin(d);
        await_old();
        put(&p.y, row, t * C::NT, p.width, [&](int g, uint32_t at, uint32_t(&v)[4]) { finish(d + 8 * g, at, v); });
    }
    /* y = alpha z B^T + beta y for tiles of a slice of the columns: one tile after the other. */
    template <int COUNT>
    __device__ __forceinline__ void second(float (&d)[COUNT], const uint32_t (&z)[C::RP / 4], share out, int row)
    {
        for (int t = out.first; t < out.last; t++) {
            if (p.beta != 0) want(row, t * C::NT, p.width);
#pragma unroll
            for (int c = 0; c < C::CHUNKS; c++) {
                multiply(d, z, c);
                if (c > 0) {
                    sti_wgmma_wait<1>();
                    release_before(2);
                }
            }
            if (p.beta == 0) free_tile();
            sti_wgmma_wait<0>();
            release_before(1);
            leave(d, t, row);
        }
    }
    /* The same where a tile is one slot: the next product runs while a tile leaves, and old values come ahead. */
    template <int AHEAD, int COUNT>
    __device__ __forceinline__ void leave_ahead(float (&d)[COUNT], int t, share out, int row)
    {
        sti_wgmma_wait<AHEAD>();
        release_before(1 + AHEAD);
        leave(d, t, row);
        if (p.beta != 0 && t + 1 < out.last) want(row, (t + 1) * C::NT, p.width);
    }
    template <int COUNT>
    __device__ __forceinline__ void second_ahead(float (&d)[COUNT], const uint32_t (&z)[C::RP / 4], share out, int row)
    {
        static_assert(C::STAGES > 1, "two tiles are under way");
        float e[C::NT / 2];
        int t = out.first;
        if (p.beta != 0) want(row, t * C::NT, p.width);
        multiply(d, z, 0);
        for (; t + 2 < out.last; t += 2) {
            multiply(e, z, 0);
            leave_ahead<1>(d, t, out, row);
            multiply(d, z, 0);
            leave_ahead<1>(e, t + 1, out, row);
        }
        if (t + 1 < out.last) {
            multiply(e, z, 0);
            leave_ahead<1>(d, t, out, row);
            leave_ahead<0>(e, t + 1, out, row);
        } else
            leave_ahead<0>(d, t, out, row);
    }
    template <int COUNT>
    __device__ __forceinline__ void after(float (&d)[COUNT], const uint32_t (&z)[C::RP / 4], share out, int row)
    {
        if constexpr (C::CHUNKS == 1)
            second_ahead(d, z, out, row);
        else
            second(d, z, out, row);
    }
    /* The same for few rows: N slots together, as every step costs the time of a round trip. */
    template <int N> __device__ __forceinline__ void together(const uint32_t (&z)[C::RP / 4], int column, int row)
    {
        float d[N][C::NB / 2];
        const int end = min(column + N * C::NB, p.width);
        if (p.beta != 0) want(row, column, end);
#pragma unroll
        for (int i = 0; i < N; i++) multiply(d[i], z, 0);
        if (p.beta == 0) free_tile();
        sti_wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < N; i++) {
            release_before(N - i);
            sti_wgmma_pin(d[i]);
        }
        await_old();
        put<N * C::NB>(&p.y, row, column, end,
                       [&](int g, uint32_t at, uint32_t(&v)[4]) { finish(&d[g / 4][8 * (g % 4)], at, v); });
    }
    __device__ __forceinline__ void second_few(const uint32_t (&z)[C::RP / 4], share out, int row)
    {
        int t = out.first;
        if (C::RP == 64)
            for (; t + 4 <= out.last; t += 4) together<4>(z, t * C::NB, row);
        for (; t + 2 <= out.last; t += 2) together<2>(z, t * C::NB, row);
        if (t < out.last) together<1>(z, t * C::NB, row);
    }

    __device__ __forceinline__ void run()
    {
        const share in = share_of(p.blocks, rank, p.split), out = share_of(p.tiles, rank, p.split);
        const int step = (int)gridDim.x / p.split;
        for (int panel = (int)blockIdx.x / p.split; panel < p.panels; panel += step) {
            const int row = (panel * C::WGS + wg) * 64;
            uint32_t z[C::RP / 4];
            float d[C::RP / 2];
            first(d, in);
            if (C::SPLITS && p.split > 1)
                exchange(d, panel * C::WGS * 64, z);
            else
                keep(d, row, z);
            if constexpr (C::WGS == 1)
                second_few(z, out, row);
            else if constexpr (C::RP >= C::NT)
                after(d, z, out, row); /* the same registers again */
            else {
                float e[C::NT / 2];
                after(e, z, out, row);
            }
        }
        if (thread == 0) sti_tma_store_wait<0>();
    }
};

template <int RP, int WGS>
__global__ void __launch_bounds__(config<RP, WGS>::THREADS, 1) lowrank(const __grid_constant__ params p)
{
    typedef config<RP, WGS> C;
    extern __shared__ unsigned char raw[];
    const memory<C> m(p, raw);
    const bool cluster = p.split > 1;
    const int rank = cluster ? (int)sti_cluster_rank() : 0;
    if (threadIdx.x == 0) {
        for (int s = 0; s < p.slots; s++) {
            sti_mbar_init(m.full(s), 1);
            sti_mbar_init(m.empty(s), WGS);
        }
        sti_mbar_init(m.parts_in(), 1);
        sti_mbar_init(m.z_in(), 1);
        for (int i = 0; i < WGS * MAX_STAGES; i++) sti_mbar_init(m.y_in(0, i), 1);
        sti_mbar_init_fence();
        if (cluster) {
            const int rows = min(64 * WGS, p.count - (int)blockIdx.x / p.split * 64 * WGS), own = 1 << p.own_log;
            sti_mbar_expect(m.parts_in(), min(max(rows - rank * own, 0), own) * p.split * RP * 4);
            sti_mbar_expect(m.z_in(), rows * RP * 2);
        }
    }
    __syncthreads();
    /* The next launch may begin; this one has touched no array yet and goes on when the one before is complete. */
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (cluster) sti_cluster_arrive();
    if (threadIdx.x >= 128 * WGS) {
        if constexpr (WGS == 2) sti_registers_shrink<40>();
        if (threadIdx.x == 128 * WGS) produce<C>(p, m, rank);
        __syncwarp();
        if (cluster) {
            sti_cluster_wait();
            sti_cluster_arrive();
            sti_cluster_wait(); /* no block goes while others write to it */
        }
    } else {
        if constexpr (WGS == 2) sti_registers_grow<232>();
        consumer<C> c(p, m, rank);
        c.run();
        __syncwarp();
        if (cluster) sti_cluster_wait();
    }
}

/* ---- host ------------------------------------------------------------------------------------------------------- */

enum { SHARED_MOST = 227 * 1024, HEAD = 2048 /* alignment, barriers */ };

template <int RP, int WGS> bool launch(const strata_context *ctx, const sti_lowrank_call *q, sti_lowrank_way how)
{
    typedef config<RP, WGS> C;
    const int64_t count = q->x->shape[0], in = q->x->shape[1], out = q->y->shape[1];
    const int64_t n = (count + 64 * WGS - 1) / (64 * WGS);
    params p;
    memset(&p, 0, sizeof p);
    p.count = (int)count;
    p.width = (int)out;
    p.blocks = (int)((in + 63) / 64);
    p.tiles = (int)((out + C::NB - 1) / C::NB);
    p.split = how.split;
    p.panels = (int)n;
    p.x_rows = WGS == 2 ? 128 : how.split > 1 && count < 64 ? (int)((count + 7) / 8 * 8) : 64;
    p.rank = (int)q->rank;
    p.alpha = (float)q->alpha;
    p.beta = (float)q->beta;
    p.zout = (sti_bf16 *)q->z;

    const int a_slot = p.x_rows * 128 + C::A_BYTES, tile_bytes = WGS * C::STAGES * C::TILE;
    p.slot_bytes = a_slot > C::B_BYTES ? a_slot : C::B_BYTES;
    int room = tile_bytes;
    if (how.split > 1) {
        const int rows = count < 64 * WGS ? (int)count : 64 * WGS;
        while (rows > how.split << p.own_log) p.own_log++;
        p.pitch = RP + 8;
        const int zs = C::PANELS * p.x_rows * 128, parts = (how.split << p.own_log) * p.pitch * 4;
        const int read = (C::PANELS - 1) * p.x_rows * 128 + WGS * BOX; /* rows past x_rows are read, and mean nothing */
        room = std::max(room, std::max(zs + parts, read));
    }
    const int per_panel = (p.blocks + how.split - 1) / how.split + (p.tiles + how.split - 1) / how.split * C::CHUNKS;
    p.slots = (SHARED_MOST - HEAD - room) / p.slot_bytes;
    p.slots = p.slots > MAX_SLOTS ? (int)MAX_SLOTS : p.slots;
    if (how.split > 1 && p.slots > per_panel) p.slots = per_panel;
    if (p.slots < 2) return false;

    const int64_t rows_x[4] = { 1, 1, count, in }, rows_y[4] = { 1, 1, count, out },
                  rows_z[4] = { 1, 1, count, q->rank }, rows_a[4] = { 1, 1, in, q->rank },
                  rows_b[4] = { 1, 1, out, q->rank };
    const int64_t ldx[3] = { 0, 0, q->x->stride[0] }, ldy[3] = { 0, 0, q->y->stride[0] }, ldr[3] = { 0, 0, q->rank };
    if (!sti_tma_map(&p.x, q->x->data, 2, rows_x, ldx, p.x_rows, 64, true) ||
        !sti_tma_map(&p.y, q->y->data, 2, rows_y, ldy, 64, 64, true) ||
        !sti_tma_map(&p.a, q->a, 2, rows_a, ldr, 64, 64, true) ||
        !sti_tma_map(&p.b, q->b, 2, rows_b, ldr, C::NB, 64, true) ||
        (q->z && !sti_tma_map(&p.z, q->z, 2, rows_z, ldr, 64, 64, true)))
        return false;

    sti_cuda *c = sti_cuda_of(ctx);
    cudaLaunchAttribute at[2] = {};
    at[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    at[0].val.programmaticStreamSerializationAllowed = 1;
    at[1].id = cudaLaunchAttributeClusterDimension;
    at[1].val.clusterDim.x = (unsigned)how.split;
    at[1].val.clusterDim.y = at[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t l = {};
    l.gridDim = dim3((unsigned)(how.split > 1 ? p.panels * how.split : std::min(p.panels, c->sms)));
    l.blockDim = dim3(C::THREADS);
    l.dynamicSmemBytes = (size_t)(HEAD + p.slots * p.slot_bytes + room);
    l.stream = c->stream;
    l.attrs = at;
    l.numAttrs = how.split > 1 ? 2 : 1;
    const void *fn = (const void *)lowrank<RP, WGS>;
    sti_cuda_note(c, cudaFuncSetAttribute(fn, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_MOST), "lowrank");
    if (how.split > 8) { /* not every device, or part of one, has room for these */
        static const bool fits = [&] {
            int n = 0;
            if (cudaFuncSetAttribute(fn, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) == cudaSuccess &&
                cudaOccupancyMaxActiveClusters(&n, fn, &l) == cudaSuccess)
                return n > 0;
            (void)cudaGetLastError(); /* not a launch's */
            return false;
        }();
        if (!fits) return false;
    }
    sti_cuda_note(c, cudaLaunchKernelEx(&l, lowrank<RP, WGS>, p), "lowrank");
    return true;
}

bool run(const strata_context *ctx, const sti_lowrank_call *q, sti_lowrank_way how)
{
    if (how.rows == 64) {
        if (q->rank <= 64) return launch<64, 1>(ctx, q, how);
        return launch<128, 1>(ctx, q, how);
    }
    if (q->rank <= 64) return launch<64, 2>(ctx, q, how);
    if (q->rank <= 128) return launch<128, 2>(ctx, q, how);
    if (q->rank <= 192) return launch<192, 2>(ctx, q, how);
    return launch<256, 2>(ctx, q, how);
}

bool aligned(const strata_tensor *t)
{
    return (uintptr_t)t->data % 16 == 0 && t->stride[0] % 8 == 0;
}

bool served(const strata_context *ctx, const sti_lowrank_call *q, sti_lowrank_way way)
{
    const int64_t most = 1 << 30, in = (q->x->shape[1] + 63) / 64, out = (q->y->shape[1] + 63) / 64;
    const bool whole = way.split == 1 || (way.split <= in && way.split * way.rows / 64 <= out && q->rank <= 128);
    return sti_cuda_of(ctx)->major == 9 && whole && ((way.rows == 64 && q->rank <= 128) || way.rows == 128) &&
           q->rank % 8 == 0 && q->rank > 0 && q->rank <= 256 && aligned(q->x) && aligned(q->y) &&
           (uintptr_t)q->a % 16 == 0 && (uintptr_t)q->b % 16 == 0 && (uintptr_t)q->z % 16 == 0 && q->x->shape[0] > 0 &&
           q->x->shape[0] < most && q->x->shape[1] > 0 && q->x->shape[1] < most && q->y->shape[1] > 0 &&
           q->y->shape[1] < most;
}

/* Percent of the processors' time that rounds of equal blocks use. */
int64_t busy(int64_t sms, int64_t blocks)
{
    return 100 * blocks / ((blocks + sms - 1) / sms * sms);
}
} // namespace

/* As measured on an H200 against two products (README.md). Many rows: where rounds of panels keep the processors busy,
 * whole or in halves. Few: where factors are small, a cluster for every 64 rows. */
extern "C" sti_lowrank_way sti_lowrank_sm90_way(const strata_context *ctx, const sti_lowrank_call *q)
{
    const int64_t sms = sti_cuda_of(ctx)->sms, count = q->x->shape[0], in = q->x->shape[1], out = q->y->shape[1];
    const int64_t n128 = (count + 127) / 128, n64 = (count + 63) / 64;
    if (busy(sms, n128) >= (n128 <= sms ? 70 : 80)) return { 128, 1 };
    if (q->rank <= 128 && busy(sms, 2 * n128) >= 90) return { 128, 2 };
    if (q->rank <= 64 && busy(sms, 2 * n64) >= 90 && n64 <= sms) return { 64, 2 };
    const bool few = count <= 16 ? q->rank <= 128 : count <= 256 && q->rank <= 64 && in + out >= 4096;
    if (few && in <= 4096 && out <= 4096) {
        int split = 1;
        while (split < 16 && 2 * 64 * split <= in && 2 * 64 * split <= out) split *= 2;
        return { 64, split };
    }
    return { 0, 1 };
}

extern "C" int sti_lowrank_sm90(const strata_context *ctx, const sti_lowrank_call *q, sti_lowrank_way way)
{
    return served(ctx, q, way) && run(ctx, q, way) ? 1 : 0;
}
