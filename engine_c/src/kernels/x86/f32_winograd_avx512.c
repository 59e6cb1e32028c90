#include "kernels/simd/avx512.h"

#define KERNEL_IN we_f32_winograd_in__avx512
#define KERNEL_OUT we_f32_winograd_out__avx512
#include "kernels/simd/winograd.h"
