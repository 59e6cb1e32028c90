/* Reference kernels for int64: the plain formulas that every faster kernel is compared with. */
#include <math.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/ref/integer_power.h"

#define TYPE int64_t
#define DT i64
#define M(function) function
#define FLOATING 0
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#define SUM_TYPE int64_t /* wraps, as the type does */
#include "kernels/ref/elementwise_template.h"
