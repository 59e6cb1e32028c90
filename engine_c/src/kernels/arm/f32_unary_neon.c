#include "kernels/simd/neon.h"

#define NAME(name) we_f32_unary_##name##__neon
#include "kernels/simd/unary.h"
