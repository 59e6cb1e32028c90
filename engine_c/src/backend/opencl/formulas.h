/* Formulas of element-wise functions and reductions as text, from the tables that the kernels are made of. */
#ifndef WE_BACKEND_OPENCL_FORMULAS_H
#define WE_BACKEND_OPENCL_FORMULAS_H

#include "kernels/kernels.h"

/* In x; in a and b; in s and x. NULL: the type has no such function. */
const char *we_formula_unary(we_unary_fn fn, we_dtype dtype);
const char *we_formula_binary(we_binary_fn fn, we_dtype dtype);
const char *we_formula_reduce(we_reduce_fn fn);
/* Where a reduction starts; "LOWEST" and "HIGHEST" are those of the type. */
const char *we_formula_reduce_start(we_reduce_fn fn);

#endif
