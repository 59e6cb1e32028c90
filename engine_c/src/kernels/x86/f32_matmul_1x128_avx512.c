/* One row, for vector times matrix: 8 independent sums hide the latency of FMA. */
#include "kernels/simd/avx512.h"

#define KERNEL we_f32_matmul_1x128__avx512
#define ROWS 1
#define VECTORS (128 / LANES)
#include "kernels/simd/matmul_tile.h"
