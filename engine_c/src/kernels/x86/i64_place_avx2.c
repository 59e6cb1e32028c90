#define KERNEL we_i64_place__avx2
#include "kernels/ref/place_template.h"
