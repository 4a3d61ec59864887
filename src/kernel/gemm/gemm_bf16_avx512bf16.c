/* bf16 products by vdpbf16ps: a pair of numbers of a row of A times the pairs of 16 columns of B. */
#include <immintrin.h>
#include <string.h>

#include "kernel/gemm/gemm_bf16.h"

static void open_tiles(void) {}

static void close_tiles(void) {}

enum { HIGH = 8 }; /* rows whose sums stay in registers */

static inline __attribute__((always_inline)) void rows8(int columns, int64_t steps, const uint16_t *pa,
                                                        const uint16_t *pb, float *t, int64_t ldt, bool add)
{
    __m512 sum[HIGH][2];
#pragma GCC unroll 8
    for (int i = 0; i < HIGH; i++)
#pragma GCC unroll 2
        for (int j = 0; j < columns; j++) sum[i][j] = add ? _mm512_loadu_ps(t + i * ldt + 16 * j) : _mm512_setzero_ps();
    for (int64_t p = 0; p < steps; p++, pa += 1024, pb += 1024)
        for (int q = 0; q < 16; q++) {
            __m512bh b[2];
#pragma GCC unroll 2
            for (int j = 0; j < columns; j++) b[j] = (__m512bh)_mm512_load_si512(pb + 512 * j + 32 * q);
#pragma GCC unroll 8
            for (int i = 0; i < HIGH; i++) {
                int32_t pair;
                memcpy(&pair, pa + 32 * i + 2 * q, sizeof pair);
                const __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
                for (int j = 0; j < columns; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], a, b[j]);
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < HIGH; i++)
#pragma GCC unroll 2
        for (int j = 0; j < columns; j++) _mm512_storeu_ps(t + i * ldt + 16 * j, sum[i][j]);
}

static void block(int rows, int columns, int64_t steps, const uint16_t *pa, const uint16_t *pb, float *t, int64_t ldt,
                  bool add)
{
    for (int i = 0; i < rows * 16; i += HIGH) {
        const uint16_t *a = pa + i / 16 * 512 + i % 16 * 32;
        if (columns == 2)
            rows8(2, steps, a, pb, t + i * ldt, ldt, add);
        else
            rows8(1, steps, a, pb, t + i * ldt, ldt, add);
    }
}

#define NAME "avx512bf16"
#define ISA STI_ISA_AVX512BF16
#define VARIANT sti_gemm_bf16_avx512bf16
#include "kernel/gemm/gemm_bf16.inc"
