#include <stdint.h>

#define KEY int64_t
#define LEAST INT64_MIN
#define SORT we_i64_sort__ref
#define PARTITION we_i64_partition__ref
#include "kernels/ref/sort_template.h"
