/* Reference kernels for float32: the plain formulas that every faster kernel is compared with. */
#include <math.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/ref/integer_power.h"

#define TYPE float
#define DT f32
#define M(function) function##f
#define FLOATING 1
#define LOWEST -INFINITY
#define HIGHEST INFINITY
#define SUM_TYPE double /* wide enough that the order of summation does not matter */
#include "kernels/ref/elementwise_template.h"
