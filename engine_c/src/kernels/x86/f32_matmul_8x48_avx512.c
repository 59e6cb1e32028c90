/* For few rows: 24 accumulators + 3 columns + 1 broadcast: 28 of 32 registers. */
#include "kernels/simd/avx512.h"

#define KERNEL we_f32_matmul_8x48__avx512
#define ROWS 8
#define VECTORS (48 / LANES)
#include "kernels/simd/matmul_tile.h"
