#define KERNEL we_u32_select__avx2
#include "kernels/ref/select_template.h"
