/* For columns that 16 does not divide: 12 sums + 3 columns + 1 broadcast: 16 of 16 registers. */
#include "kernels/simd/avx2.h"

#define KERNEL we_f32_matmul_4x24__avx2
#define ROWS 4
#define VECTORS (24 / LANES)
#include "kernels/simd/matmul_tile.h"
