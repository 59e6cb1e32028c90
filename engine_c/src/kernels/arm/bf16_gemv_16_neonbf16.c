#include "kernels/simd/words_neonbf16.h"

#define KERNEL we_bf16_gemv_16__neonbf16
#include "kernels/simd/gemv_words.h"
