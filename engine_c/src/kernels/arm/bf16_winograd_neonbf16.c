#include "kernels/simd/neonbf16.h"

#define KERNEL_IN we_bf16_winograd_in__neonbf16
#define KERNEL_OUT we_bf16_winograd_out__neonbf16
#include "kernels/simd/winograd.h"
