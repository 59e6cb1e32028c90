#include "kernels/simd/neonbf16.h"

#define KERNEL we_bf16_depthwise__neonbf16
#include "kernels/simd/depthwise.h"
