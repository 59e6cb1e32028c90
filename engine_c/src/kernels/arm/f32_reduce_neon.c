#include "kernels/simd/neon.h"

#define NAME(name) we_f32_reduce_##name##__neon
#include "kernels/simd/reduce.h"
