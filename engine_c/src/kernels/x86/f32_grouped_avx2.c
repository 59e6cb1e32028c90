#include "kernels/simd/avx2.h"

#define KERNEL we_f32_grouped__avx2
#include "kernels/simd/grouped.h"
