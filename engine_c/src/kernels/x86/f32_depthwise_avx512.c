#include "kernels/simd/avx512.h"

#define KERNEL we_f32_depthwise__avx512
#include "kernels/simd/depthwise.h"
