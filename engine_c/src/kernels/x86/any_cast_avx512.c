#define ISA avx512
#include "kernels/ref/cast_template.h"
