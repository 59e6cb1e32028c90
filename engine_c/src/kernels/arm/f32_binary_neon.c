#include "kernels/simd/neon.h"

#define NAME(name) we_f32_binary_##name##__neon
#include "kernels/simd/binary.h"
