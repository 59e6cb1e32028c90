#define WE_ARRAY_ISA ref
#include "kernels/simd/array_loops.h"
