#define WE_ARRAY_ISA avx2
#include "kernels/simd/array_loops.h"
