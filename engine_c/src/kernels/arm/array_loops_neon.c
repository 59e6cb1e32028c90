#define WE_ARRAY_ISA neon
#define WE_ARRAY_VECTOR 16
#include "kernels/simd/array_loops.h"
