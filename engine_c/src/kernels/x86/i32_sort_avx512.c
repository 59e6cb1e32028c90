#include "kernels/simd/sort_i32_avx512.h"

#define KEY int32_t
#define LEAST INT32_MIN
#define MOST INT32_MAX
#define SORT we_i32_sort__avx512
#define PARTITION we_i32_partition__avx512
#include "kernels/simd/sort_avx512.h"
