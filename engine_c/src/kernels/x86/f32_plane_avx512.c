#include "kernels/simd/avx512.h"

#define NAME(name) we_f32_##name##__avx512
#include "kernels/simd/plane.h"
