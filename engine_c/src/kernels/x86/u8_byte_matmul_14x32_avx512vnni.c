/* 28 sums + 2 columns + 1 quad of a row: 31 of 32 registers. */
#include "kernels/simd/quads_avx512vnni.h"

#define KERNEL we_u8_byte_matmul_14x32__avx512vnni
#define ROWS 14
#define VECTORS (32 / LANES)
#include "kernels/simd/byte_tile.h"
