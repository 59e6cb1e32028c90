#define REAL double
#define NAME(function) we_f64_dense_##function##__ref
#include "kernels/ref/dense_template.h"
