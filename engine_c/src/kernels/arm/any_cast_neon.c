#define ISA neon
#include "kernels/ref/cast_template.h"
