/* Variant `amx`: products of bf16 in tile registers, one tile of rows against four of columns. */
#include "backend/cpu/amx.h"

#define VARIANT sti_attention_amx
#define NAME "amx"
#define ISA STI_ISA_AMX
#define tiles_open sti_tiles_open
#define tiles_close sti_tiles_close

#include <stdint.h>

#define COLUMNS_1(x) x(0, 5)
#define COLUMNS_2(x) COLUMNS_1(x) x(1, 6)
#define COLUMNS_3(x) COLUMNS_2(x) x(2, 7)
#define COLUMNS_4(x) COLUMNS_3(x) x(3, 5)

#define LOAD(j, t) _tile_loadd(j, c + (j)*cn, 64);
#define CLEAR(j, t) _tile_zero(j);
#define MULTIPLY(j, t)                                                                                                 \
    _tile_loadd(t, at + (j)*bn, 64);                                                                                   \
    _tile_dpbf16ps(j, 4, t);
#define STORE(j, t) _tile_stored(j, c + (j)*cn, 64);
#define PRODUCT(columns)                                                                                               \
    do {                                                                                                               \
        const uint16_t *at = b;                                                                                        \
        if (add) {                                                                                                     \
            columns(LOAD)                                                                                              \
        } else {                                                                                                       \
            columns(CLEAR)                                                                                             \
        }                                                                                                              \
        for (int s = 0; s < steps; s++, at += bs) {                                                                    \
            _tile_loadd(4, s < steps - 1 ? a + s * 512 : last, 64);                                                    \
            columns(MULTIPLY)                                                                                          \
        }                                                                                                              \
        columns(STORE)                                                                                                 \
    } while (0)

static inline void product(int64_t n, const uint16_t *a, const uint16_t *last, int steps, const uint16_t *b, int64_t bn,
                           int64_t bs, float *c, int64_t cn, int add)
{
    for (; n >= 4; n -= 4, b += 4 * bn, c += 4 * cn) PRODUCT(COLUMNS_4);
    switch (n) {
    case 3: PRODUCT(COLUMNS_3); break;
    case 2: PRODUCT(COLUMNS_2); break;
    case 1: PRODUCT(COLUMNS_1); break;
    default: break;
    }
}

#include "kernel/attention/attention_bf16.inc"
