/* The float32 kernel over words of two bfloat16. */
#include "kernels/simd/avx512bf16.h"

#define KERNEL we_bf16x1_matmul_14x32__avx512bf16
#define ROWS 14
#define VECTORS (32 / LANES)
#include "kernels/simd/matmul_tile.h"
