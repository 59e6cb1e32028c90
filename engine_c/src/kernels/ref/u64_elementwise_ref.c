/* Reference kernels for uint64: the plain formulas that every faster kernel is compared with. */
#include <math.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/ref/integer_power.h"

#define TYPE uint64_t
#define DT u64
#define M(function) function
#define FLOATING 0
#define SIGNED 0
#define LOWEST 0
#define HIGHEST UINT64_MAX
#define SUM_TYPE uint64_t /* wraps, as the type does */
#include "kernels/ref/elementwise_template.h"
