#include "kernels/simd/avx512.h"

#define KERNEL we_f32_gemv_64__avx512
#define MOST_ROWS 6
#include "kernels/simd/gemv.h"
