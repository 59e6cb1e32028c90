#include "kernels/simd/neon.h"

#define KERNEL we_f32_norm__neon
#include "kernels/simd/norm.h"
