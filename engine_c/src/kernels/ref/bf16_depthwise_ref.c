#define KERNEL we_bf16_depthwise__ref
#define ELEMENT uint16_t
#define LOAD(x) we_bf16_to_f32(x)
#define STORE(x) we_f32_to_bf16_part(x)
#include "kernels/ref/depthwise_template.h"
