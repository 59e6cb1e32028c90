#include "kernels/simd/avx2.h"

#define KERNEL we_f32_norm__avx2
#include "kernels/simd/norm.h"
