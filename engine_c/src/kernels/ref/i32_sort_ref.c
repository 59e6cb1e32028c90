#include <stdint.h>

#define KEY int32_t
#define LEAST INT32_MIN
#define SORT we_i32_sort__ref
#define PARTITION we_i32_partition__ref
#include "kernels/ref/sort_template.h"
