#define ISA ref
#include "kernels/ref/cast_template.h"
