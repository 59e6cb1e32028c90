#define WE_ARRAY_ISA avx512
#define WE_ARRAY_VECTOR 64
#define WE_ARRAY_TILE_ROWS 6
#define WE_ARRAY_TILE_VECTORS 4
#include "kernels/simd/array_loops.h"
