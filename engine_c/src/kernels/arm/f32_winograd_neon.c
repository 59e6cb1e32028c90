#include "kernels/simd/neon.h"

#define KERNEL_IN we_f32_winograd_in__neon
#define KERNEL_OUT we_f32_winograd_out__neon
#include "kernels/simd/winograd.h"
