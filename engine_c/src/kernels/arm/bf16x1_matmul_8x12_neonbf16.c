/* 24 blocks + 4 pairs of rows + a column: 29 of 32 registers. */
#include "kernels/simd/words_neonbf16.h"

#define KERNEL we_bf16x1_matmul_8x12__neonbf16
#define ROWS 8
#define VECTORS (12 / LANES)
#include "kernels/simd/matmul_tile.h"
