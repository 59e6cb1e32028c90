/* 24 sums + 3 columns + a row: 28 to 32 of 32 registers. */
#include "kernels/simd/neon.h"

#define KERNEL we_f32_matmul_8x12__neon
#define ROWS 8
#define VECTORS (12 / LANES)
#include "kernels/simd/matmul_tile.h"
