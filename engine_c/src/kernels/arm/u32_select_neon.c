#define KERNEL we_u32_select__neon
#include "kernels/ref/select_template.h"
