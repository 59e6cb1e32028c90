/* 27 sums + 3 columns + 1 broadcast: 31 of 32 registers. */
#include "kernels/simd/avx512.h"

#define KERNEL we_f32_matmul_9x48__avx512
#define ROWS 9
#define VECTORS (48 / LANES)
#include "kernels/simd/matmul_tile.h"
