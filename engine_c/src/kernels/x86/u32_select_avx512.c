#define KERNEL we_u32_select__avx512
#include "kernels/ref/select_template.h"
