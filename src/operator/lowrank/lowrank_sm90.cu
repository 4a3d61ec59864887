/* y = alpha (x A) B^T + beta y on Hopper, z = x A kept on chip (README.md, "On Hopper"). A producer warp streams panels
 * of 64 columns of x beside 64 rows of A through a ring in shared memory, then tiles of B; every consumer warpgroup
 * owns 64 rows, sums z in registers, rounds it to bf16, and as the left operand of the second product it stays there.
 *
 * Many rows: a block takes panels of 64 or 128 rows one after the other. Fewer: the blocks of a cluster share a panel;
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
enum { MAX_SLOTS = 16, BOX = 64 * 128 /* bytes of 64 rows of 64 columns */, MAX_STAGES = 4 };

struct params {
    CUtensorMap x, a, b, y, z;
    int32_t count, width;  /* rows; columns of y */
    int32_t blocks, tiles; /* 64 columns of x each; NT columns of y each */
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
    static constexpr int NT = WGS == 2 ? 128 : 64; /* columns of a tile of y */
    static constexpr int UP = WGS == 1 ? PANELS : PANELS == 3 ? 1 : PANELS < 2 ? PANELS : 2; /* boxes of B in a slot */
    static constexpr int CHUNKS = PANELS / UP;
    static constexpr int A_BYTES = PANELS * BOX, B_BYTES = UP * NT * 128;
    static constexpr int STAGES = WGS == 1 ? 4 : RP > 192 ? 1 : 2; /* tiles of y on their way out */
    static constexpr int TILE = NT * 128;                          /* bytes of a warpgroup's tile */
    static constexpr bool SPLITS = WGS == 1 || RP <= 128;          /* shared memory holds what is exchanged */
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
            sti_tma_load(at, &p.x, full, k * 64, panel * 64 * C::WGS, 0, 0);
            for (int i = 0; i < C::PANELS; i++) sti_tma_load(at + x_bytes + i * BOX, &p.a, full, i * 64, k * 64, 0, 0);
        }
        for (int t = out.first; t < out.last; t++)
            for (int c = 0; c < C::CHUNKS; c++, r.step(p.slots)) {
                const uint32_t full = m.full(r.slot), at = m.slot(r.slot);
                sti_mbar_wait(m.empty(r.slot), r.parity ^ 1);
                sti_mbar_expect(full, C::B_BYTES);
                for (int i = 0; i < C::UP; i++)
                    sti_tma_load(at + i * C::NT * 128, &p.b, full, (c * C::UP + i) * 64, t * C::NT, 0, 0);
            }
    }
}

/* ---- consumers -------------------------------------------------------------------------------------------------- */

template <class C> struct consumer {
    const params &p;
    const memory<C> &m;
    int wg, thread, warp, lane, rank;
    ring r;
    uint32_t corner; /* of a box: row and half of its chunk pairs that this lane names to stmatrix and ldmatrix */
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
    __device__ __forceinline__ void want(int row, int column) const
    {
        if (thread != 0) return;
        const int boxes = min(C::NT / 64, (p.width - column + 63) / 64);
        sti_tma_store_wait_read<C::STAGES - 1>();
        sti_mbar_expect(m.y_in(wg, stage), boxes * BOX);
        for (int i = 0; i < boxes; i++)
            sti_tma_load(tile() + i * BOX, &p.y, m.y_in(wg, stage), column + i * 64, row, 0, 0);
    }
    /* NT columns to an array: f(g, v) gives 16 of them. */
    template <class F> __device__ __forceinline__ void put(const CUtensorMap *map, int row, int column, int end, F f)
    {
        const uint32_t to = tile();
#pragma unroll
        for (int g = 0; g < C::NT / 16; g++) {
            uint32_t v[4];
            const uint32_t at = to + fragment(g, 64);
            f(g, at, v);
            sti_stmatrix(at, v);
        }
        sti_fence_async();
        sync();
        if (thread == 0) {
            for (int i = 0; i < C::NT / 64; i++)
                if (column + i * 64 < end && row < p.count)
                    sti_tma_store(map, to + i * BOX, column + i * 64, row, 0, 0);
            sti_tma_store_commit();
        }
        stage = stage + 1 == C::STAGES ? 0 : stage + 1;
    }
    __device__ __forceinline__ void free_tile() const
    {
        if (thread == 0) sti_tma_store_wait_read<C::STAGES - 1>();
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

    /* What this warp has written to other blocks is there; their barriers count all warps of the cluster. */
    __device__ __forceinline__ void told(uint32_t bar) const
    {
        asm volatile("fence.acq_rel.cluster;" ::: "memory");
        __syncwarp();
        if (lane < p.split) sti_cluster_mbar_arrive(sti_cluster_smem(bar, lane));
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
            const uint32_t to =
                sti_cluster_smem(in + ((rank * own + (at & (own - 1))) * p.pitch + lane % 4 * 2) * 4, at >> p.own_log);
#pragma unroll
            for (int i = 0; i < C::RP / 8; i++) sti_cluster_put2(to + 32 * i, d[4 * i + 2 * h], d[4 * i + 2 * h + 1]);
        }
        told(m.parts_in());
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
                for (int c = 0; c < p.split; c++) sti_cluster_put4(sti_cluster_smem(to, c), v);
            }
        }
        told(m.z_in());
        sti_cluster_mbar_wait(m.z_in(), 0);
#pragma unroll
        for (int g = 0; g < C::STEPS; g++)
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(z[4 * g]), "=r"(z[4 * g + 1]), "=r"(z[4 * g + 2]), "=r"(z[4 * g + 3])
                         : "r"(zs + wg * BOX + fragment(g, p.x_rows))
                         : "memory");
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
#pragma unroll
        for (int t = 0; t * C::NT < C::RP; t++) {
            free_tile();
            put(&p.z, row, t * C::NT, p.rank, [&](int g, uint32_t, uint32_t(&v)[4]) {
                const int s = t * (C::NT / 16) + g;
#pragma unroll
                for (int i = 0; i < 4; i++) v[i] = s < C::STEPS ? z[s < C::STEPS ? 4 * s + i : 0] : 0;
            });
        }
    }

    /* y = alpha z B^T + beta y for tiles of a slice of the columns. */
    template <int COUNT>
    __device__ __forceinline__ void second(float (&d)[COUNT], const uint32_t (&z)[C::RP / 4], share out, int row)
    {
        for (int t = out.first; t < out.last; t++) {
            if (p.beta != 0) want(row, t * C::NT);
            int last = 0;
#pragma unroll
            for (int c = 0; c < C::CHUNKS; c++) {
                sti_mbar_wait(m.full(r.slot), r.parity);
                const uint32_t at = m.slot(r.slot);
                sti_wgmma_fence();
#pragma unroll
                for (int s = 0; s < 4 * C::UP; s++)
                    sti_wgmma_rs<C::NT, 0>(d, z + 4 * (4 * C::UP * c + s),
                                           sti_wgmma_at(sti_wgmma_k(at), (s / 4) * C::NT * 128 + (s % 4) * 32),
                                           c > 0 || s > 0);
                sti_wgmma_commit();
                if (c > 0) {
                    sti_wgmma_wait<1>();
                    release(last);
                }
                last = r.slot;
                r.step(p.slots);
            }
            if (p.beta == 0) free_tile();
            sti_wgmma_wait<0>();
            release(last);
            sti_wgmma_pin(d);
            if (p.beta != 0) {
                sti_mbar_wait(m.y_in(wg, stage), y_parity >> stage & 1);
                y_parity ^= 1u << stage;
            }
            put(&p.y, row, t * C::NT, p.width, [&](int g, uint32_t at, uint32_t(&v)[4]) {
                float e[8];
#pragma unroll
                for (int i = 0; i < 8; i++) e[i] = p.alpha * d[8 * g + i];
                if (p.beta != 0) {
                    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                                 : "r"(at)
                                 : "memory");
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float2 old = __bfloat1622float2(*(const __nv_bfloat162 *)&v[i]);
                        e[2 * i] += p.beta * old.x;
                        e[2 * i + 1] += p.beta * old.y;
                    }
                }
#pragma unroll
                for (int i = 0; i < 4; i++) v[i] = sti_pack_bf16(e[2 * i], e[2 * i + 1]);
            });
        }
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
            if constexpr (C::RP >= C::NT)
                second(d, z, out, row); /* the same registers again */
            else {
                float e[C::NT / 2];
                second(e, z, out, row);
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
        sti_mbar_init(m.parts_in(), 4 * WGS * p.split);
        sti_mbar_init(m.z_in(), 4 * WGS * p.split);
        for (int i = 0; i < WGS * MAX_STAGES; i++) sti_mbar_init(m.y_in(0, i), 1);
        sti_mbar_init_fence();
    }
    __syncthreads();
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
    p.tiles = (int)((out + C::NT - 1) / C::NT);
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
        !sti_tma_map(&p.b, q->b, 2, rows_b, ldr, C::NT, 64, true) ||
        (q->z && !sti_tma_map(&p.z, q->z, 2, rows_z, ldr, 64, 64, true)))
        return false;

    sti_cuda *c = sti_cuda_of(ctx);
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = (unsigned)how.split;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t l = {};
    l.gridDim = dim3((unsigned)(how.split > 1 ? p.panels * how.split : std::min(p.panels, c->sms)));
    l.blockDim = dim3(C::THREADS);
    l.dynamicSmemBytes = (size_t)(HEAD + p.slots * p.slot_bytes + room);
    l.stream = c->stream;
    l.attrs = &cluster;
    l.numAttrs = cluster.val.clusterDim.x > 1 ? 1 : 0;
    const void *fn = (const void *)lowrank<RP, WGS>;
    sti_cuda_note(c, cudaFuncSetAttribute(fn, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_MOST), "lowrank");
    if (cluster.val.clusterDim.x > 8)
        sti_cuda_note(c, cudaFuncSetAttribute(fn, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "lowrank");
    sti_cuda_note(c, cudaLaunchKernelEx(&l, lowrank<RP, WGS>, p), "lowrank");
    return true;
}

bool run(const strata_context *ctx, const sti_lowrank_call *q, sti_lowrank_way how)
{
    if (how.rows == 64) {
        if (q->rank <= 64) return launch<64, 1>(ctx, q, how);
        if (q->rank <= 128) return launch<128, 1>(ctx, q, how);
        if (q->rank <= 192) return launch<192, 1>(ctx, q, how);
        return launch<256, 1>(ctx, q, how);
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
    const bool whole =
        way.split == 1 || (way.split <= in && way.split * way.rows / 64 <= out && (way.rows == 64 || q->rank <= 128));
    return sti_cuda_of(ctx)->major == 9 && whole && (way.rows == 64 || way.rows == 128) && q->rank % 8 == 0 &&
           q->rank > 0 && q->rank <= 256 && aligned(q->x) && aligned(q->y) && (uintptr_t)q->a % 16 == 0 &&
           (uintptr_t)q->b % 16 == 0 && (uintptr_t)q->z % 16 == 0 && q->x->shape[0] > 0 && q->x->shape[0] < most &&
           q->x->shape[1] > 0 && q->x->shape[1] < most && q->y->shape[1] > 0 && q->y->shape[1] < most;
}

} // namespace

/* Panels of 128 rows when they keep at least this share of the processors busy in every round; the rest is faster as
 * two products (measured on an H200: README.md). */
enum { BUSY_PERCENT = 72 };

extern "C" sti_lowrank_way sti_lowrank_sm90_way(const strata_context *ctx, const sti_lowrank_call *q)
{
    const int64_t sms = sti_cuda_of(ctx)->sms, panels = (q->x->shape[0] + 127) / 128, rounds = (panels + sms - 1) / sms;
    const sti_lowrank_way way = { 100 * panels >= BUSY_PERCENT * rounds * sms ? 128 : 0, 1 };
    return way;
}

extern "C" int sti_lowrank_sm90(const strata_context *ctx, const sti_lowrank_call *q, sti_lowrank_way way)
{
    return served(ctx, q, way) && run(ctx, q, way) ? 1 : 0;
}
