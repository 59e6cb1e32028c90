#include "kernels/simd/avx2.h"

#define KERNEL we_f32_depthwise__avx2
#include "kernels/simd/depthwise.h"
