#ifndef STI_AMX_H
#define STI_AMX_H
/* Tile registers of a thread: eight of 16 rows x 64 bytes. They hold nothing between two calls of the library: each
 * thread configures them when it starts to work and releases them when it ends, so that a switch of threads need not
 * save 8 KiB. For NAME_amx.c only, behind STI_ISA_AMX. */

#include <immintrin.h>
#include <stdint.h>

enum { STI_TILE_ROWS = 16, STI_TILE_BYTES = 64 };

static inline void sti_tiles_open(void)
{
    _Alignas(64) struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16]; /* of a row, by tile */
        uint8_t rows[16];
    } config = { .palette = 1 };
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = STI_TILE_BYTES;
        config.rows[i] = STI_TILE_ROWS;
    }
    _tile_loadconfig(&config);
}

static inline void sti_tiles_close(void)
{
    _tile_release();
}

#endif
