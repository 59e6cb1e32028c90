/* 24 blocks + 3 pairs of rows + a column: 28 of 32 registers. */
#include "kernels/simd/words_neonbf16.h"

#define KERNEL we_bf16x1_matmul_6x16__neonbf16
#define ROWS 6
#define VECTORS (16 / LANES)
#include "kernels/simd/matmul_tile.h"
