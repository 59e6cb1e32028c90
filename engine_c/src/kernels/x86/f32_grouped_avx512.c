#include "kernels/simd/avx512.h"

#define KERNEL we_f32_grouped__avx512
#include "kernels/simd/grouped.h"
