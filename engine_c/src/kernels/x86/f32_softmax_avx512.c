#include "kernels/simd/avx512.h"

#define KERNEL we_f32_softmax__avx512
#include "kernels/simd/softmax.h"
