#define ITEMS we_linalg_items_c64
#define REAL float
#define IS_COMPLEX 1
#define DENSE f32_dense
#include "array/linalg/algorithms.inc"
