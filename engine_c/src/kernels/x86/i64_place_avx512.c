#define KERNEL we_i64_place__avx512
#include "kernels/ref/place_template.h"
