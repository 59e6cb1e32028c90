#define REAL float
#define NAME(function) we_f32_dense_##function##__avx2
#define LANES 8
#define ROWS 4
#define VECTORS 3
#include "kernels/simd/dense.h"
