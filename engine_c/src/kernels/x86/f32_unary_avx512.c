#include "kernels/simd/avx512.h"

#define NAME(name) we_f32_unary_##name##__avx512
#include "kernels/simd/unary.h"
