#define WE_ARRAY_ISA ref
#define WE_ARRAY_VECTOR 16
#include "kernels/simd/array_loops.h"
