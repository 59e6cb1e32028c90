#define GEMV we_u4_coded_gemv_8__ref
#define EXPAND we_u4_coded_expand_8__ref
#define CODE_BITS 4
#include "kernels/ref/coded_template.h"
