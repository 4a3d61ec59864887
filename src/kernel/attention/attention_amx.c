/* Variant `amx`: products of bf16 in tile registers, two tiles of rows against two of columns. */
#include "backend/cpu/amx.h"

#define VARIANT sti_attention_amx
#define NAME "amx"
#define ISA STI_ISA_AMX
#define tiles_open sti_tiles_open
#define tiles_close sti_tiles_close

#include <stdint.h>

/* Two tiles of rows (4, 5) against two of columns (6, 7), sums in 0 to 3; or one of either. */
#define FOR_1_1(x, y, z) x(4, 0) y(6, 0) z(0, 4, 6, 0, 0)
#define FOR_1_2(x, y, z) FOR_1_1(x, y, z) y(7, 1) z(1, 4, 7, 0, 1)
#define FOR_2_1(x, y, z) FOR_1_1(x, y, z) x(5, 1) z(2, 5, 6, 1, 0)
#define FOR_2_2(x, y, z) FOR_1_2(x, y, z) x(5, 1) z(2, 5, 6, 1, 0) z(3, 5, 7, 1, 1)

#define NOTHING(tile, i)
#define LOAD_ROWS(tile, i) _tile_loadd(tile, row + (i)*am, 64);
#define LOAD_COLUMNS(tile, j) _tile_loadd(tile, column + (j)*bn, 64);
#define MULTIPLY(sum, x, y, i, j) _tile_dpbf16ps(sum, x, y);
#define LOAD(sum, x, y, i, j) _tile_loadd(sum, c + (i)*cm + (j)*cn, 64);
#define CLEAR(sum, x, y, i, j) _tile_zero(sum);
#define STORE(sum, x, y, i, j) _tile_stored(sum, c + (i)*cm + (j)*cn, 64);
#define PRODUCT(tiles)                                                                                                 \
    do {                                                                                                               \
        const uint16_t *column = b;                                                                                    \
        if (add) {                                                                                                     \
            tiles(NOTHING, NOTHING, LOAD)                                                                              \
        } else {                                                                                                       \
            tiles(NOTHING, NOTHING, CLEAR)                                                                             \
        }                                                                                                              \
        for (int s = 0; s < steps; s++, column += bs) {                                                                \
            const uint16_t *row = s < steps - 1 ? a + s * 512 : last;                                                  \
            tiles(LOAD_ROWS, LOAD_COLUMNS, MULTIPLY)                                                                   \
        }                                                                                                              \
        tiles(NOTHING, NOTHING, STORE)                                                                                 \
    } while (0)

static inline void product_tiles(int two_rows, int two_columns, int64_t am, int64_t bn, const uint16_t *a,
                                 const uint16_t *last, int steps, const uint16_t *b, int64_t bs, float *c, int64_t cm,
                                 int64_t cn, int add)
{
    if (two_rows && two_columns)
        PRODUCT(FOR_2_2);
    else if (two_rows)
        PRODUCT(FOR_2_1);
    else if (two_columns)
        PRODUCT(FOR_1_2);
    else
        PRODUCT(FOR_1_1);
}

static inline void product(int64_t m, int64_t am, int64_t n, int64_t bn, const uint16_t *a, const uint16_t *last,
                           int steps, const uint16_t *b, int64_t bs, float *c, int64_t cm, int64_t cn, int add)
{
    for (int64_t j = 0; j < n; j += 2) /* columns outside: they come from further away */
        for (int64_t i = 0; i < m; i += 2)
            product_tiles(m - i > 1, n - j > 1, am, bn, a + i * am, last + i * am, steps, b + j * bn, bs,
                          c + i * cm + j * cn, cm, cn, add);
}

#include "kernel/attention/attention_bf16.inc"
