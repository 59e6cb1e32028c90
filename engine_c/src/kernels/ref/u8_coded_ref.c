#define GEMV we_u8_coded_gemv_8__ref
#define EXPAND we_u8_coded_expand_8__ref
#define CODE_BITS 8
#include "kernels/ref/coded_template.h"
