#define KERNEL we_f32_window_max__ref
#define ELEMENT float
#define LOAD(x) (x)
#define STORE(x) (x)
#include "kernels/ref/window_template.h"
