#ifndef STI_WGMMA_CUH
#define STI_WGMMA_CUH
/* Hopper's warpgroup matrix products, D (64 x N, f32) += A (64 x 16, bf16) B (16 x N, bf16), for device code of sm_90a.
 * A comes from shared memory or registers, B from shared memory, D stays in registers.
 *
 * Tiles in shared memory are panels of 128-byte rows (64 bf16) in TMA's 128-byte swizzle (tma.cuh); each panel starts
 * at a multiple of 1024 bytes. A panel serves as an operand in two ways: K-major:  its rows are M (or N), its columns
 * the inner dimension. 16 inner columns on: address + 32; 64 on: the next panel; 8 rows on: + 1024. MN-major: its rows
 * are the inner dimension, its columns M (or N); operands wider than 64 columns go on in the next panel. 16 inner rows
 * on: address + 2048; 8 columns on: + 16, within a panel.
 *
 * Fragments: thread t of the warpgroup, lane l = t % 32, holds of D, for i = 0 .. N / 8 - 1, in d[4 i .. 4 i + 3] the
 * elements (r, c) (r, c + 1) (r + 8, c) (r + 8, c + 1) with r = t / 32 * 16 + l / 4 and c = 8 i + 2 (l % 4). A's 16
 * inner columns are two such groups packed in pairs, so 16 columns of a D are an A (sti_wgmma_pack).
 *
 * Order: fence, products, commit, wait<n> (n: groups that may still run). Registers of products in flight must not be
 * touched. */

#include <cuda_bf16.h>
#include <stdint.h>

/* ---- shared-memory operands -------------------------------------------------------------------------------------- */

/* Descriptor of a K-major operand at a shared-memory address. */
__device__ __forceinline__ uint64_t sti_wgmma_k(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
/* Descriptor of an MN-major operand; `panel` bytes from one panel to the next (any value up to 64 columns). */
__device__ __forceinline__ uint64_t sti_wgmma_mn(uint32_t address, uint32_t panel)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(panel >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}
/* The operand `bytes` further on: the address is in the lower half, without a carry. */
__device__ __forceinline__ uint64_t sti_wgmma_at(uint64_t descriptor, uint32_t bytes)
{
    return (descriptor & 0xffffffff00000000u) | ((uint32_t)descriptor + (bytes >> 4));
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* Before the first product, and after any other write of D or of A's registers. */
__device__ __forceinline__ void sti_wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void sti_wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int LEFT> __device__ __forceinline__ void sti_wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
/* Keeps the compiler from moving uses of d across this point (the hardware needs nothing). */
template <int COUNT> __device__ __forceinline__ void sti_wgmma_pin(float (&d)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}
/* Between work that shall run under the products and the wait for them: x, which is not negative, depends on that work.
 * The assembler moves a bare wait above everything that does not touch memory. */
__device__ __forceinline__ void sti_wgmma_hold(float x)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.lt.f32 p, %0, 0f00000000;\n"
                 "@p nanosleep.u32 0;\n"
                 "}\n" ::"f"(x)
                 : "memory");
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* Operand lists: N columns are N / 2 registers, 8 for every 16 columns. */
#define STI_D8(i)                                                                                                      \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
        "+f"(d[i + 7])
#define STI_D16 STI_D8(0)
#define STI_D32 STI_D16, STI_D8(8)
#define STI_D48 STI_D32, STI_D8(16)
#define STI_D64 STI_D48, STI_D8(24)
#define STI_D80 STI_D64, STI_D8(32)
#define STI_D96 STI_D80, STI_D8(40)
#define STI_D112 STI_D96, STI_D8(48)
#define STI_D128 STI_D112, STI_D8(56)
#define STI_D144 STI_D128, STI_D8(64)
#define STI_D160 STI_D144, STI_D8(72)
#define STI_D176 STI_D160, STI_D8(80)
#define STI_D192 STI_D176, STI_D8(88)
#define STI_D256 STI_D192, STI_D8(96), STI_D8(104), STI_D8(112), STI_D8(120)
#define STI_N16 "%0,%1,%2,%3,%4,%5,%6,%7"
#define STI_N32 STI_N16 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define STI_N48 STI_N32 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define STI_N64 STI_N48 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define STI_N80 STI_N64 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define STI_N96 STI_N80 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define STI_N112 STI_N96 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define STI_N128 STI_N112 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define STI_N144 STI_N128 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define STI_N160 STI_N144 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define STI_N176 STI_N160 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define STI_N192 STI_N176 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define STI_N256                                                                                                       \
    STI_N192 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,"       \
             "%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

#define STI_WGMMA_SS(n, a0, b0, p0, ta, tb)                                                                            \
    asm volatile("{\n"                                                                                                 \
                 ".reg .pred p;\n"                                                                                     \
                 "setp.ne.b32 p, %" #p0 ", 0;\n"                                                                       \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" STI_N##n                                 \
                 "}, %" #a0 ", %" #b0 ", p, 1, 1, %" #ta ", %" #tb ";\n"                                               \
                 "}\n"                                                                                                 \
                 : STI_D##n                                                                                            \
                 : "l"(a), "l"(b), "r"(add), "n"(A_MN), "n"(B_MN))
#define STI_WGMMA_RS(n, a0, a1, a2, a3, b0, p0, tb)                                                                    \
    asm volatile("{\n"                                                                                                 \
                 ".reg .pred p;\n"                                                                                     \
                 "setp.ne.b32 p, %" #p0 ", 0;\n"                                                                       \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" STI_N##n                                 \
                 "}, {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #b0 ", p, 1, 1, %" #tb ";\n"                            \
                 "}\n"                                                                                                 \
                 : STI_D##n                                                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(B_MN))

/* D[first N columns] (+)= A B, both in shared memory; 0 in `add`: overwrites. A_MN, B_MN: the operand is MN-major. */
template <int N, int A_MN, int B_MN, int COUNT>
__device__ __forceinline__ void sti_wgmma_ss(float (&d)[COUNT], uint64_t a, uint64_t b, int32_t add)
{
    static_assert(((N % 16 == 0 && N >= 16 && N <= 192) || N == 256) && N <= 2 * COUNT, "columns");
    if constexpr (N == 16) STI_WGMMA_SS(16, 8, 9, 10, 11, 12);
    if constexpr (N == 32) STI_WGMMA_SS(32, 16, 17, 18, 19, 20);
    if constexpr (N == 48) STI_WGMMA_SS(48, 24, 25, 26, 27, 28);
    if constexpr (N == 64) STI_WGMMA_SS(64, 32, 33, 34, 35, 36);
    if constexpr (N == 80) STI_WGMMA_SS(80, 40, 41, 42, 43, 44);
    if constexpr (N == 96) STI_WGMMA_SS(96, 48, 49, 50, 51, 52);
    if constexpr (N == 112) STI_WGMMA_SS(112, 56, 57, 58, 59, 60);
    if constexpr (N == 128) STI_WGMMA_SS(128, 64, 65, 66, 67, 68);
    if constexpr (N == 144) STI_WGMMA_SS(144, 72, 73, 74, 75, 76);
    if constexpr (N == 160) STI_WGMMA_SS(160, 80, 81, 82, 83, 84);
    if constexpr (N == 176) STI_WGMMA_SS(176, 88, 89, 90, 91, 92);
    if constexpr (N == 192) STI_WGMMA_SS(192, 96, 97, 98, 99, 100);
    if constexpr (N == 256) STI_WGMMA_SS(256, 128, 129, 130, 131, 132);
}
/* The same with A in registers. */
template <int N, int B_MN, int COUNT>
__device__ __forceinline__ void sti_wgmma_rs(float (&d)[COUNT], const uint32_t *a, uint64_t b, int32_t add)
{
    static_assert(N % 16 == 0 && N >= 16 && N <= 192 && N <= 2 * COUNT, "columns");
    if constexpr (N == 16) STI_WGMMA_RS(16, 8, 9, 10, 11, 12, 13, 14);
    if constexpr (N == 32) STI_WGMMA_RS(32, 16, 17, 18, 19, 20, 21, 22);
    if constexpr (N == 48) STI_WGMMA_RS(48, 24, 25, 26, 27, 28, 29, 30);
    if constexpr (N == 64) STI_WGMMA_RS(64, 32, 33, 34, 35, 36, 37, 38);
    if constexpr (N == 80) STI_WGMMA_RS(80, 40, 41, 42, 43, 44, 45, 46);
    if constexpr (N == 96) STI_WGMMA_RS(96, 48, 49, 50, 51, 52, 53, 54);
    if constexpr (N == 112) STI_WGMMA_RS(112, 56, 57, 58, 59, 60, 61, 62);
    if constexpr (N == 128) STI_WGMMA_RS(128, 64, 65, 66, 67, 68, 69, 70);
    if constexpr (N == 144) STI_WGMMA_RS(144, 72, 73, 74, 75, 76, 77, 78);
    if constexpr (N == 160) STI_WGMMA_RS(160, 80, 81, 82, 83, 84, 85, 86);
    if constexpr (N == 176) STI_WGMMA_RS(176, 88, 89, 90, 91, 92, 93, 94);
    if constexpr (N == 192) STI_WGMMA_RS(192, 96, 97, 98, 99, 100, 101, 102);
}

#undef STI_WGMMA_SS
#undef STI_WGMMA_RS

/* ---- fragments --------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ uint32_t sti_pack_bf16(float lo, float hi) /* lo in the lower half */
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
/* Columns 16 step .. 16 step + 15 of a D as the A of a product whose inner dimension they are. */
template <int COUNT> __device__ __forceinline__ void sti_wgmma_pack(uint32_t *a, const float (&d)[COUNT], int step)
{
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = sti_pack_bf16(d[8 * step + 2 * i], d[8 * step + 2 * i + 1]);
}
/* Four 8 x 8 matrices to shared memory: lane l gives the address of row l % 8 of matrix l / 8. With the registers of an
 * A, matrices are (rows 0-7, columns 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15). */
__device__ __forceinline__ void sti_stmatrix(uint32_t address, const uint32_t *a)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a[0]),
                 "r"(a[1]), "r"(a[2]), "r"(a[3])
                 : "memory");
}

#endif
