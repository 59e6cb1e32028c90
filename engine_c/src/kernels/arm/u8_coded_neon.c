#include "kernels/simd/neon.h"

#define GEMV we_u8_coded_gemv_16__neon
#define EXPAND we_u8_coded_expand_16__neon
#define CODE_BITS 8
#define MOST_ROWS 4
#include "kernels/simd/coded.h"
