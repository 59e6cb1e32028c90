#define ITEMS we_linalg_items_f32
#define REAL float
#define IS_COMPLEX 0
#define DENSE f32_dense
#include "array/linalg/algorithms.inc"
