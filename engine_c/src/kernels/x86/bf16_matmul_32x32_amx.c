#include "kernels/kernels.h"
#include "kernels/simd/amx.h"
#include "kernels/simd/avx512bf16.h"
#include "kernels/simd/matmul_amx.h"

void we_bf16x1_matmul_32x32__amx(const we_tile *t) {
    multiply_parts(t, 1);
}

void we_bf16x2_matmul_32x32__amx(const we_tile *t) {
    multiply_parts(t, 2);
}

void we_bf16x3_matmul_32x32__amx(const we_tile *t) {
    multiply_parts(t, 3);
}

void we_amx_open(void) {
    tiles_open();
}

void we_amx_close(void) {
    tiles_close();
}
