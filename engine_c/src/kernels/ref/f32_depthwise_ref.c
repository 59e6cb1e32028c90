#define KERNEL we_f32_depthwise__ref
#define ELEMENT float
#define LOAD(x) (x)
#define STORE(x) (x)
#include "kernels/ref/depthwise_template.h"
