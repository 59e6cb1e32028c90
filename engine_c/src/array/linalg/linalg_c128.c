#define ITEMS we_linalg_items_c128
#define REAL double
#define IS_COMPLEX 1
#define DENSE f64_dense
#include "array/linalg/algorithms.inc"
