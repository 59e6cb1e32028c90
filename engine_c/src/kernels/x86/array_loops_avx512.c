#define WE_ARRAY_ISA avx512
#define WE_ARRAY_VECTOR 64
#include "kernels/simd/array_loops.h"
