#include "kernels/simd/avx2.h"

#define NAME(name) we_f32_reduce_##name##__avx2
#include "kernels/simd/reduce.h"
