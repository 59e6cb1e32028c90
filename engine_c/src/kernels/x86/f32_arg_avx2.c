#include "kernels/simd/avx2.h"

#define KERNEL we_f32_arg__avx2
#include "kernels/simd/arg.h"
