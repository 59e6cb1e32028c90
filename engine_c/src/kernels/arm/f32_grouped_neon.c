#include "kernels/simd/neon.h"

#define KERNEL we_f32_grouped__neon
#include "kernels/simd/grouped.h"
