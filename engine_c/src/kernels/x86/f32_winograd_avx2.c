#include "kernels/simd/avx2.h"

#define KERNEL_IN we_f32_winograd_in__avx2
#define KERNEL_OUT we_f32_winograd_out__avx2
#include "kernels/simd/winograd.h"
