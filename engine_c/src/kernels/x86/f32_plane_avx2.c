#include "kernels/simd/avx2.h"

#define NAME(name) we_f32_##name##__avx2
#include "kernels/simd/plane.h"
