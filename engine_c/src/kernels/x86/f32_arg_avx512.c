#include "kernels/simd/avx512.h"

#define KERNEL we_f32_arg__avx512
#include "kernels/simd/arg.h"
