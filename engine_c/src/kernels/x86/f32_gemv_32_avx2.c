#include "kernels/simd/avx2.h"

#define KERNEL we_f32_gemv_32__avx2
#define MOST_ROWS 3
#include "kernels/simd/gemv.h"
