#include "kernels/simd/avx512.h"

#define GEMV we_u8_coded_gemv_64__avx512
#define EXPAND we_u8_coded_expand_64__avx512
#define CODE_BITS 8
#define MOST_ROWS 4
#include "kernels/simd/coded.h"
