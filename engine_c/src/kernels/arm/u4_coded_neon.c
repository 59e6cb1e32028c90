#include "kernels/simd/neon.h"

#define GEMV we_u4_coded_gemv_16__neon
#define EXPAND we_u4_coded_expand_16__neon
#define CODE_BITS 4
#define MOST_ROWS 4
#include "kernels/simd/coded.h"
