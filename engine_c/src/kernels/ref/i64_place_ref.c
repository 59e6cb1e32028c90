#define KERNEL we_i64_place__ref
#include "kernels/ref/place_template.h"
