#define WE_ARRAY_ISA avx2
#define WE_ARRAY_VECTOR 32
#include "kernels/simd/array_loops.h"
