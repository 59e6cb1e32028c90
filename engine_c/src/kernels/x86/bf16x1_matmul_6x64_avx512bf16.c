/* The float32 kernel over words of two bfloat16. */
#include "kernels/simd/avx512bf16.h"

#define KERNEL we_bf16x1_matmul_6x64__avx512bf16
#define ROWS 6
#define VECTORS (64 / LANES)
#include "kernels/simd/matmul_tile.h"
