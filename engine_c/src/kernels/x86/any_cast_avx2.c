#define ISA avx2
#include "kernels/ref/cast_template.h"
