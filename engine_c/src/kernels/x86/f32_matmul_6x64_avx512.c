/* 24 sums + 4 columns + 1 broadcast: 29 of 32 registers. */
#include "kernels/simd/avx512.h"

#define KERNEL we_f32_matmul_6x64__avx512
#define ROWS 6
#define VECTORS (64 / LANES)
#include "kernels/simd/matmul_tile.h"
