/* 24 sums + 3 columns + 1 quad of a row + 2 products: 30 of 32 registers. */
#include "kernels/simd/quads_neon.h"

#define KERNEL we_u8_byte_matmul_4x12__neon
#define ROWS 4
#define VECTORS (12 / LANES)
#include "kernels/simd/byte_tile.h"
