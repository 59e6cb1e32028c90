#include "kernels/simd/avx512bf16.h"

#define KERNEL we_bf16_gemv_64__avx512bf16
#include "kernels/simd/gemv_words.h"
