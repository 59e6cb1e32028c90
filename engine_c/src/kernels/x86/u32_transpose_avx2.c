#include "kernels/simd/square_avx2.h"

#define KERNEL we_u32_transpose__avx2
#include "kernels/simd/transpose.h"
