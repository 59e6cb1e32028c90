#include "kernels/simd/neon.h"

#define KERNEL we_f32_arg__neon
#include "kernels/simd/arg.h"
