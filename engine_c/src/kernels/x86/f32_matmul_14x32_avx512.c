/* 28 sums + 2 columns + 1 broadcast: 31 of 32 registers. */
#include "kernels/simd/avx512.h"

#define KERNEL we_f32_matmul_14x32__avx512
#define ROWS 14
#define VECTORS (32 / LANES)
#include "kernels/simd/matmul_tile.h"
