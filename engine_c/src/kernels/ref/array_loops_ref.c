#define WE_ARRAY_ISA ref
#define WE_ARRAY_VECTOR 16
#define WE_ARRAY_TILE_ROWS 4
#define WE_ARRAY_TILE_VECTORS 2
#include "kernels/simd/array_loops.h"
