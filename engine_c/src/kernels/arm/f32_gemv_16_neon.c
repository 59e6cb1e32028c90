#include "kernels/simd/neon.h"

#define KERNEL we_f32_gemv_16__neon
#define MOST_ROWS 3
#include "kernels/simd/gemv.h"
