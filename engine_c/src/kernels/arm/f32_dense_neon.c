#define REAL float
#define NAME(function) we_f32_dense_##function##__neon
#define LANES 4
#define ROWS 8
#define VECTORS 3
#include "kernels/simd/dense.h"
