/* One row, for vector times matrix: 8 independent sums hide the latency of FMA. */
#include "kernels/simd/avx2.h"

#define KERNEL we_f32_matmul_1x64__avx2
#define ROWS 1
#define VECTORS (64 / LANES)
#include "kernels/simd/matmul_tile.h"
