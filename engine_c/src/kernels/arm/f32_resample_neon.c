#include "kernels/simd/neon.h"

#define NAME(name) we_f32_##name##__neon
#include "kernels/simd/resample.h"
