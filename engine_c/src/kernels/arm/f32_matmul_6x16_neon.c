/* For columns that 12 does not divide: 24 sums + 4 columns + a row: 29 to 32 of 32 registers. */
#include "kernels/simd/neon.h"

#define KERNEL we_f32_matmul_6x16__neon
#define ROWS 6
#define VECTORS (16 / LANES)
#include "kernels/simd/matmul_tile.h"
