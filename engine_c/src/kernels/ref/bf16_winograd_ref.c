#define KERNEL_IN we_bf16_winograd_in__ref
#define KERNEL_OUT we_bf16_winograd_out__ref
#define ELEMENT uint16_t
#define LOAD(x) we_bf16_to_f32(x)
#define STORE(x) we_f32_to_bf16_part(x)
#include "kernels/ref/winograd_template.h"
