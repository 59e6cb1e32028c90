#define NAME(function) we_##function##__avx512
#include "kernels/sort_keys_template.h"
