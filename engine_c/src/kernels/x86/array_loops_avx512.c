#define WE_ARRAY_ISA avx512
#include "kernels/simd/array_loops.h"
