/* Tile registers (AMX): eight of 16 rows of 64 bytes, all used whole. */
#ifndef WE_KERNELS_SIMD_AMX_H
#define WE_KERNELS_SIMD_AMX_H

#include <immintrin.h>
#include <stdint.h>

#define TILE_ZERO(tile) _tile_zero(tile)
#define TILE_LOAD(tile, from, row_bytes) _tile_loadd(tile, from, row_bytes)
#define TILE_STORE(tile, to, row_bytes) _tile_stored(tile, to, row_bytes)
/* sums[i][j] += a[i][2w] * b[w][2j] + a[i][2w + 1] * b[w][2j + 1] over w < 16; denormals are zeros. */
#define TILE_DOT(sums, a, b) _tile_dpbf16ps(sums, a, b)

/* Source: Intel SDM volume 1, section 18.2: palette 1, then bytes of a row and rows of each register. */
static inline void tiles_open(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
}

static inline void tiles_close(void) {
    _tile_release();
}

#endif
