#define ITEMS we_linalg_items_f64
#define REAL double
#define IS_COMPLEX 0
#define DENSE f64_dense
#include "array/linalg/algorithms.inc"
