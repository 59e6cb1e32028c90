#include "kernels/simd/avx512.h"

#define GEMV we_u4_coded_gemv_64__avx512
#define EXPAND we_u4_coded_expand_64__avx512
#define CODE_BITS 4
#define MOST_ROWS 4
#include "kernels/simd/coded.h"
