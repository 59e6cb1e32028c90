#include "kernels/simd/avx2.h"

#define KERNEL we_f32_softmax__avx2
#include "kernels/simd/softmax.h"
