#include "kernels/simd/sort_i64_avx512.h"

#define KEY int64_t
#define LEAST INT64_MIN
#define MOST INT64_MAX
#define SORT we_i64_sort__avx512
#define PARTITION we_i64_partition__avx512
#include "kernels/simd/sort_avx512.h"
