/* Reference kernels for int32: the plain formulas that every faster kernel is compared with. */
#include <math.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/ref/integer_power.h"

#define TYPE int32_t
#define DT i32
#define M(function) function
#define FLOATING 0
#define LOWEST INT32_MIN
#define HIGHEST INT32_MAX
#define SUM_TYPE int32_t /* wraps, as the type does */
#include "kernels/ref/elementwise_template.h"
