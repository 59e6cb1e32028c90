#include "kernels/simd/avx512.h"

#define KERNEL we_f32_norm__avx512
#include "kernels/simd/norm.h"
