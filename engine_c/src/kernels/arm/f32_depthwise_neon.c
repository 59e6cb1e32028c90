#include "kernels/simd/neon.h"

#define KERNEL we_f32_depthwise__neon
#include "kernels/simd/depthwise.h"
