/* Variant `avx512bf16`: products of bf16 by dot products of pairs, 8 rows against three vectors. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VARIANT sti_attention_avx512bf16
#define NAME "avx512bf16"
#define ISA STI_ISA_AVX512BF16
static inline void tiles_open(void) {}
static inline void tiles_close(void) {}

/* `columns` tiles of c: 8 of their rows at a time stay in registers. */
static inline __attribute__((always_inline)) void dot_products(const int columns, const uint16_t *a,
                                                               const uint16_t *last, int steps, const uint16_t *b,
                                                               int64_t bn, int64_t bs, float *c, int64_t cn, int add)
{
    enum { HALF = 8 };
    for (int r = 0; r < 16; r += HALF) {
        __m512 sum[HALF][3];
#pragma GCC unroll 8
        for (int i = 0; i < HALF; i++)
#pragma GCC unroll 3
            for (int j = 0; j < columns; j++)
                sum[i][j] = add ? _mm512_load_ps(c + j * cn + (r + i) * 16) : _mm512_setzero_ps();
        for (int s = 0; s < steps; s++) {
            const uint16_t *x = (s < steps - 1 ? a + s * 512 : last) + r * 32, *y = b + s * bs;
            for (int p = 0; p < 16; p++) {
                __m512i w[3];
#pragma GCC unroll 3
                for (int j = 0; j < columns; j++) w[j] = _mm512_load_si512(y + j * bn + p * 32);
#pragma GCC unroll 8
                for (int i = 0; i < HALF; i++) {
                    int32_t pair;
                    memcpy(&pair, x + i * 32 + p * 2, sizeof pair);
                    const __m512bh v = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 3
                    for (int j = 0; j < columns; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], v, (__m512bh)w[j]);
                }
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < HALF; i++)
#pragma GCC unroll 3
            for (int j = 0; j < columns; j++) _mm512_store_ps(c + j * cn + (r + i) * 16, sum[i][j]);
    }
}

static void product_rows(int64_t n, const uint16_t *a, const uint16_t *last, int steps, const uint16_t *b, int64_t bn,
                         int64_t bs, float *c, int64_t cn, int add)
{
    while (n > 0) {
        const int columns = n == 4 ? 2 : n >= 3 ? 3 : (int)n; /* 4: twice 2 */
        if (columns == 3)
            dot_products(3, a, last, steps, b, bn, bs, c, cn, add);
        else if (columns == 2)
            dot_products(2, a, last, steps, b, bn, bs, c, cn, add);
        else
            dot_products(1, a, last, steps, b, bn, bs, c, cn, add);
        n -= columns;
        b += columns * bn;
        c += columns * cn;
    }
}

static void product(int64_t m, int64_t am, int64_t n, int64_t bn, const uint16_t *a, const uint16_t *last, int steps,
                    const uint16_t *b, int64_t bs, float *c, int64_t cm, int64_t cn, int add)
{
    for (int64_t i = 0; i < m; i++) product_rows(n, a + i * am, last + i * am, steps, b, bn, bs, c + i * cm, cn, add);
}

#include "kernel/attention/attention_bf16.inc"
