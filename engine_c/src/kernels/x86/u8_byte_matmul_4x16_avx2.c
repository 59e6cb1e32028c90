/* 8 sums + 4 words of columns + 2 of a row: 14 of 16 registers. */
#include "kernels/simd/quads_avx2.h"

#define KERNEL we_u8_byte_matmul_4x16__avx2
#define ROWS 4
#define VECTORS (16 / LANES)
#include "kernels/simd/byte_tile.h"
