#define REAL double
#define NAME(function) we_f64_dense_##function##__avx2
#define LANES 4
#define ROWS 4
#define VECTORS 3
#include "kernels/simd/dense.h"
