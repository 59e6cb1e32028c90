#include "kernels/simd/avx512.h"

#define NAME(name) we_f32_reduce_##name##__avx512
#include "kernels/simd/reduce.h"
