#define REAL double
#define NAME(function) we_f64_dense_##function##__neon
#define LANES 2
#define ROWS 8
#define VECTORS 3
#include "kernels/simd/dense.h"
