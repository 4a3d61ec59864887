#ifndef STI_TMA_CUH
#define STI_TMA_CUH
/* Hopper's asynchronous copies for device code: mbarriers, tensor copies (TMA) with 128-byte swizzle, named barriers
 * and register redistribution; on the host, tensor maps. sm_90a only. Shared-memory addresses are 32-bit (sti_smem).
 *
 * Layout of a tile in shared memory: a box of 64 bf16 columns (128 bytes) x rows, row r at r * 128, whose 16-byte
 * chunks are permuted: chunk c of row r lies at c ^ (r & 7). Tiles start at multiples of 1024 bytes. Elements outside
 * the tensor arrive as zero and are not stored. */

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

enum { STI_SWIZZLE_COLUMNS = 64, STI_SWIZZLE_ALIGN = 1024 };

__device__ __forceinline__ uint32_t sti_smem(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}
/* Byte of 16-byte chunk `chunk` (0 .. 7) of row `row` of a swizzled tile. */
__device__ __forceinline__ uint32_t sti_swizzle(uint32_t row, uint32_t chunk)
{
    return row * 128 + ((chunk ^ (row & 7)) << 4);
}

/* ---- mbarrier ----------------------------------------------------------------------------------------------------
 * A barrier alternates between phases 0 and 1. wait(bar, parity) returns once the phase of that parity has completed: a
 * fresh barrier counts as having completed parity 1, so a producer starts with parity 1 and a consumer with parity 0.
 */

__device__ __forceinline__ void sti_mbar_init(uint32_t bar, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void sti_mbar_init_fence() /* after the inits, before the block's barrier */
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void sti_mbar_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/* Arrive and expect `bytes` from tensor copies before the phase completes. */
__device__ __forceinline__ void sti_mbar_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ bool sti_mbar_try(uint32_t bar, uint32_t parity)
{
    uint32_t done;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}\n"
                 : "=r"(done)
                 : "r"(bar), "r"(parity)
                 : "memory");
    return done != 0;
}
__device__ __forceinline__ void sti_mbar_wait(uint32_t bar, uint32_t parity)
{
    while (!sti_mbar_try(bar, parity)) {}
}

/* ---- tensor copies ---------------------------------------------------------------------------------------------- */

__device__ __forceinline__ void sti_tma_prefetch(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"((uint64_t)(uintptr_t)map) : "memory");
}
/* Box at (column, row, head, batch) to shared memory; its full size counts on `bar`. One thread. */
__device__ __forceinline__ void sti_tma_load(uint32_t dst, const CUtensorMap *map, uint32_t bar, int32_t column,
                                             int32_t row, int32_t head, int32_t batch)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
                 "%6}], [%2];" ::"r"(dst),
                 "l"((uint64_t)(uintptr_t)map), "r"(bar), "r"(column), "r"(row), "r"(head), "r"(batch)
                 : "memory");
}
/* The same for what is read once: the first to leave the L2 cache. */
__device__ __forceinline__ uint64_t sti_once()
{
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
__device__ __forceinline__ void sti_tma_load_once(uint32_t dst, const CUtensorMap *map, uint32_t bar, int32_t column,
                                                  int32_t row, int32_t head, int32_t batch)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
                 "[%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(dst),
                 "l"((uint64_t)(uintptr_t)map), "r"(bar), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(sti_once())
                 : "memory");
}
/* Box from shared memory; ordinary writes to it need sti_fence_async and a barrier first. One thread, which then
 * commits and waits before the memory is used again. */
__device__ __forceinline__ void sti_tma_store(const CUtensorMap *map, uint32_t src, int32_t column, int32_t row,
                                              int32_t head, int32_t batch)
{
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
                     (uint64_t)(uintptr_t)map),
                 "r"(src), "r"(column), "r"(row), "r"(head), "r"(batch)
                 : "memory");
}
__device__ __forceinline__ void sti_tma_store_once(const CUtensorMap *map, uint32_t src, int32_t column, int32_t row,
                                                   int32_t head, int32_t batch)
{
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3, %4, %5}], [%1], %6;" ::"l"(
            (uint64_t)(uintptr_t)map),
        "r"(src), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(sti_once())
        : "memory");
}
__device__ __forceinline__ void sti_tma_store_commit()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <int LEFT> __device__ __forceinline__ void sti_tma_store_wait_read() /* sources may be overwritten */
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(LEFT) : "memory");
}
template <int LEFT> __device__ __forceinline__ void sti_tma_store_wait() /* stores are visible */
{
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(LEFT) : "memory");
}
/* Ordinary shared-memory writes of this thread before tensor cores or copies read them (then a barrier). */
__device__ __forceinline__ void sti_fence_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- clusters ---------------------------------------------------------------------------------------------------
 * All threads of all blocks arrive, and wait before they arrive again. */

__device__ __forceinline__ uint32_t sti_cluster_rank()
{
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ __forceinline__ void sti_cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void sti_cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/* What `address` is in block `rank` of the cluster. */
__device__ __forceinline__ uint32_t sti_cluster_smem(uint32_t address, uint32_t rank)
{
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}
__device__ __forceinline__ void sti_cluster_mbar_wait(uint32_t bar, uint32_t parity) /* for what other blocks wrote */
{
    uint32_t done = 0;
    while (!done)
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}\n"
                     : "=r"(done)
                     : "r"(bar), "r"(parity)
                     : "memory");
}
/* 8 or 16 bytes to a block's memory; they count on `bar`, a barrier of that block. */
__device__ __forceinline__ void sti_cluster_put2(uint32_t to, uint32_t bar, float a, float b)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to), "f"(a),
                 "f"(b), "r"(bar)
                 : "memory");
}
__device__ __forceinline__ void sti_cluster_put4(uint32_t to, uint32_t bar, const uint32_t (&v)[4])
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]), "r"(bar)
                 : "memory");
}

/* ---- warps ------------------------------------------------------------------------------------------------------ */

/* Named barriers 1 .. 15 (0 is __syncthreads): sync waits for `threads` arrivals, arrive does not wait. */
__device__ __forceinline__ void sti_bar_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void sti_bar_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/* Registers per thread from here on, a multiple of 8; by all warps of a warpgroup, which is one branch of the kernel's
 * if over roles, under __launch_bounds__(threads, 1). */
template <int N> __device__ __forceinline__ void sti_registers_grow()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void sti_registers_shrink()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* ---- tensor maps (host) -----------------------------------------------------------------------------------------
 * Nothing links libcuda: the encoder comes through the runtime. */

typedef CUresult (*sti_tma_encoder)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                                    const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                                    CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static inline sti_tma_encoder sti_tma_find_encoder() /* NULL when the driver is too old */
{
    void *fn = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000, cudaEnableDefault, &found) !=
            cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
        return nullptr;
    return (sti_tma_encoder)fn;
}

/* Map of a (batch, head, time, dim) array of bf16 or f32 in boxes of `rows` times x `columns`; strides in elements, of
 * any size that is a multiple of 16 bytes (also `data`); dim contiguous. Swizzled in 128 bytes when `swizzle`, which
 * wants boxes of 128 bytes a row. The map holds the address; encoding costs about a microsecond. */
static inline bool sti_tma_map(CUtensorMap *map, const void *data, int bytes, const int64_t size[4],
                               const int64_t stride[3], int rows, int columns, bool swizzle)
{
    static const sti_tma_encoder encode = sti_tma_find_encoder();
    const cuuint64_t dims[4] = { (cuuint64_t)size[3], (cuuint64_t)size[2], (cuuint64_t)size[1], (cuuint64_t)size[0] };
    cuuint64_t pitch[3]; /* time, head, batch */
    const cuuint32_t box[4] = { (cuuint32_t)columns, (cuuint32_t)rows, 1, 1 }, step[4] = { 1, 1, 1, 1 };
    for (int i = 0; i < 3; i++) /* the stride of a dimension of one element never matters, but must be valid */
        pitch[i] = dims[i + 1] > 1 ? (cuuint64_t)(stride[2 - i] * bytes) : (dims[0] * (cuuint64_t)bytes + 15) / 16 * 16;
    return encode && encode(map, bytes == 4 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
                            (void *)data, dims, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                            swizzle ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

#endif
