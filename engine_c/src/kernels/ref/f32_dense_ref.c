#define REAL float
#define NAME(function) we_f32_dense_##function##__ref
#include "kernels/ref/dense_template.h"
