#include "kernels/simd/avx2.h"

#define GEMV we_u4_coded_gemv_32__avx2
#define EXPAND we_u4_coded_expand_32__avx2
#define CODE_BITS 4
#define MOST_ROWS 2
#include "kernels/simd/coded.h"
