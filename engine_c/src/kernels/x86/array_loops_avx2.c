#define WE_ARRAY_ISA avx2
#define WE_ARRAY_VECTOR 32
#define WE_ARRAY_TILE_ROWS 4
#define WE_ARRAY_TILE_VECTORS 3
#include "kernels/simd/array_loops.h"
