#define KERNEL we_u32_select__ref
#include "kernels/ref/select_template.h"
