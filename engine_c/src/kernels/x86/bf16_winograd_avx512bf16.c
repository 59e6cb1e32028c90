#include "kernels/simd/narrow.h"

#define KERNEL_IN we_bf16_winograd_in__avx512bf16
#define KERNEL_OUT we_bf16_winograd_out__avx512bf16
#include "kernels/simd/winograd.h"
