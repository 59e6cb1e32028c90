/* Reference kernels for float64: the plain formulas that every faster kernel is compared with. */
#include <math.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/ref/integer_power.h"

#define TYPE double
#define DT f64
#define M(function) function
#define FLOATING 1
#define LOWEST -INFINITY
#define HIGHEST INFINITY
#define SUM_TYPE double /* the type itself */
#include "kernels/ref/elementwise_template.h"
