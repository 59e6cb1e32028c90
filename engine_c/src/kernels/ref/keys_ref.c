#define NAME(function) we_##function##__ref
#include "kernels/sort_keys_template.h"
