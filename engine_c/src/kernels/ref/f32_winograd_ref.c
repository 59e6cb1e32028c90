#define KERNEL_IN we_f32_winograd_in__ref
#define KERNEL_OUT we_f32_winograd_out__ref
#define ELEMENT float
#define LOAD(x) (x)
#define STORE(x) (x)
#include "kernels/ref/winograd_template.h"
