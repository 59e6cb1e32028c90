#define KERNEL we_i64_place__neon
#include "kernels/ref/place_template.h"
