#include "kernels/simd/narrow.h"

#define IN_PAIRS
#define KERNEL we_bf16_depthwise__avx512bf16
#include "kernels/simd/depthwise.h"
