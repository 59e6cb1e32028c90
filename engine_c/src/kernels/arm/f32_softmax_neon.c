#include "kernels/simd/neon.h"

#define KERNEL we_f32_softmax__neon
#include "kernels/simd/softmax.h"
