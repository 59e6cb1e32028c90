#include "kernels/simd/square_neon.h"

#define KERNEL we_u32_transpose__neon
#include "kernels/simd/transpose.h"
