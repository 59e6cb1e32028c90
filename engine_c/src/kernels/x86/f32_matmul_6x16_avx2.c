/* 12 sums + 2 columns + 1 broadcast: 15 of 16 registers. */
#include "kernels/simd/avx2.h"

#define KERNEL we_f32_matmul_6x16__avx2
#define ROWS 6
#define VECTORS (16 / LANES)
#include "kernels/simd/matmul_tile.h"
