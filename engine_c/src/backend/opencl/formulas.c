#include "backend/opencl/formulas.h"

#include "base/dtype.h"

const char *we_formula_unary(we_unary_fn fn, we_dtype dtype) {
    static const char *const FLOATING[WE_UNARY_COUNT] = {
#define WE_UNARY_FN(Name, name, formula) #formula,
#include "kernels/unary_fns.inc"
#undef WE_UNARY_FN
    };
    static const char *const INTEGER[WE_UNARY_COUNT] = {
#define WE_INTEGER_UNARY_FN(Name, name, formula) [WE_UNARY_##Name] = #formula,
#include "kernels/unary_fns.inc"
#undef WE_INTEGER_UNARY_FN
    };
    return (we_dtype_kind(dtype) == 'f' ? FLOATING : INTEGER)[fn];
}

const char *we_formula_binary(we_binary_fn fn, we_dtype dtype) {
    static const char *const FLOATING[WE_BINARY_COUNT] = {
#define WE_BINARY_FN(Name, name, floating, integer) [WE_BINARY_##Name] = #floating,
#define WE_COMPARE_FN(Name, name, formula) [WE_BINARY_##Name] = #formula,
#include "kernels/binary_fns.inc"
#undef WE_BINARY_FN
#undef WE_COMPARE_FN
    };
    static const char *const INTEGER[WE_BINARY_COUNT] = {
#define WE_BINARY_FN(Name, name, floating, integer) [WE_BINARY_##Name] = #integer,
#define WE_INTEGER_FN(Name, name, formula) [WE_BINARY_##Name] = #formula,
#define WE_COMPARE_FN(Name, name, formula) [WE_BINARY_##Name] = #formula,
#include "kernels/binary_fns.inc"
#undef WE_BINARY_FN
#undef WE_INTEGER_FN
#undef WE_COMPARE_FN
    };
    return (we_dtype_kind(dtype) == 'f' ? FLOATING : INTEGER)[fn];
}

const char *we_formula_reduce(we_reduce_fn fn) {
    static const char *const STEPS[WE_REDUCE_COUNT] = {
#define WE_REDUCE_FN(Name, name, start, step) #step,
#include "kernels/reduce_fns.inc"
#undef WE_REDUCE_FN
    };
    return STEPS[fn];
}

const char *we_formula_reduce_start(we_reduce_fn fn) {
    static const char *const STARTS[WE_REDUCE_COUNT] = {
#define WE_REDUCE_FN(Name, name, start, step) #start,
#include "kernels/reduce_fns.inc"
#undef WE_REDUCE_FN
    };
    return STARTS[fn];
}
