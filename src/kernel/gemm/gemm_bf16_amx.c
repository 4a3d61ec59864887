/* bf16 products by the tile registers: 2 x 2 tiles of C, of 16 x 16 sums each. */
#include "backend/cpu/amx.h"
#include "kernel/gemm/gemm_bf16.h"

static void open_tiles(void)
{
    sti_tiles_open();
}

static void close_tiles(void)
{
    sti_tiles_close();
}

static void block(int rows, int columns, int64_t steps, const uint16_t *pa, const uint16_t *pb, float *t, int64_t ldt,
                  bool add)
{
    const size_t line = (size_t)ldt * sizeof *t;
    float *below = t + 16 * ldt;
    if (add) {
        _tile_loadd(0, t, line);
        if (columns == 2) _tile_loadd(1, t + 16, line);
        if (rows == 2) _tile_loadd(2, below, line);
        if (rows == 2 && columns == 2) _tile_loadd(3, below + 16, line);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    if (rows == 2 && columns == 2)
        for (int64_t p = 0; p < steps; p++, pa += 1024, pb += 1024) {
            if (!add && p < 8) /* the lines that are written at the end come meanwhile */
                for (int64_t i = 4 * p; i < 4 * p + 4; i++) {
                    __builtin_prefetch(t + i * ldt, 1);
                    __builtin_prefetch(t + i * ldt + 16, 1);
                }
            _tile_loadd(4, pa, 64);
            _tile_loadd(6, pb, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, pb + 512, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, pa + 512, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    else
        for (int64_t p = 0; p < steps; p++, pa += 1024, pb += 1024) {
            _tile_loadd(4, pa, 64);
            _tile_loadd(6, pb, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (columns == 2) {
                _tile_loadd(7, pb + 512, 64);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (rows == 2) {
                _tile_loadd(5, pa + 512, 64);
                _tile_dpbf16ps(2, 5, 6);
            }
        }
    _tile_stored(0, t, line);
    if (columns == 2) _tile_stored(1, t + 16, line);
    if (rows == 2) _tile_stored(2, below, line);
    if (rows == 2 && columns == 2) _tile_stored(3, below + 16, line);
}

#define NAME "amx bf16"
#define ISA STI_ISA_AMX
#define VARIANT sti_gemm_bf16_amx
#include "kernel/gemm/gemm_bf16.inc"
