/* 24 sums + 3 columns + 1 quad of a row: 28 of 32 registers. */
#include "kernels/simd/quads_neondot.h"

#define KERNEL we_u8_byte_matmul_8x12__neondot
#define ROWS 8
#define VECTORS (12 / LANES)
#include "kernels/simd/byte_tile.h"
