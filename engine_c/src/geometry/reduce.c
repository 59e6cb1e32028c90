/* Rules of reductions around a sum. They compute in float32 where the type is narrower, in double where it is
 * of integers and the result is rounded anyway, and convert once at the end. */
#include <math.h>

#include "base/dtype.h"
#include "geometry/lower.h"

/* The input in the type of the computation, and the axes. */
static int32_t begin(we_lower *l, bool fractional, we_axes *axes) {
    we_dtype dtype = l->call.in[0]->dtype;
    l->status = we_call_axes(&l->call, axes);
    if (we_dtype_kind(dtype) == 'f')
        return dtype == WE_F32 || dtype == WE_F64 ? l->in[0] : we_emit_cast(l, l->in[0], WE_F32, WE_NEW);
    return fractional ? we_emit_cast(l, l->in[0], WE_F64, WE_NEW) : l->in[0];
}

static void finish(we_lower *l, int32_t x) {
    we_tensor from = we_lower_tensor(l, x), out = we_lower_tensor(l, l->out[0]);
    if (from.dtype == out.dtype)
        we_emit_reshape(l, x, out.rank, out.dims, l->out[0]);
    else
        we_emit_cast(l, x, out.dtype, l->out[0]);
}

void we_rule_reduce_l1(we_lower *l) {
    we_axes axes;
    int32_t x = begin(l, false, &axes);
    int32_t size = we_emit_unary(l, WE_UNARY_Abs, x, WE_NEW);
    finish(l, we_emit_reduce(l, WE_REDUCE_Sum, size, axes.reduced, WE_NEW));
}

static int32_t sum_of_squares(we_lower *l, bool fractional) {
    we_axes axes;
    int32_t x = begin(l, fractional, &axes);
    int32_t square = we_emit_binary(l, WE_BINARY_Mul, x, x, WE_NEW);
    return we_emit_reduce(l, WE_REDUCE_Sum, square, axes.reduced, WE_NEW);
}

void we_rule_reduce_sum_square(we_lower *l) {
    finish(l, sum_of_squares(l, false));
}

void we_rule_reduce_l2(we_lower *l) {
    finish(l, we_emit_unary(l, WE_UNARY_Sqrt, sum_of_squares(l, true), WE_NEW));
}

void we_rule_reduce_log_sum(we_lower *l) {
    we_axes axes;
    int32_t x = begin(l, true, &axes);
    int32_t sum = we_emit_reduce(l, WE_REDUCE_Sum, x, axes.reduced, WE_NEW);
    finish(l, we_emit_unary(l, WE_UNARY_Log, sum, WE_NEW));
}

/* log(sum(exp(x - m))) + m with m the maximum, or 0 where that is infinite: keeps exp within range. */
void we_rule_reduce_log_sum_exp(we_lower *l) {
    we_axes axes;
    int32_t x = begin(l, true, &axes);
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    int32_t most = we_emit_reduce(l, WE_REDUCE_Max, x, axes.reduced, WE_NEW);
    int32_t size = we_emit_unary(l, WE_UNARY_Abs, most, WE_NEW);
    int32_t infinite = we_emit_binary(l, WE_BINARY_Equal, size, we_lower_scalar(l, dtype, INFINITY), WE_NEW);
    most = we_emit_select(l, infinite, we_lower_scalar(l, dtype, 0), most, WE_NEW);
    int32_t power = we_emit_unary(l, WE_UNARY_Exp, we_emit_binary(l, WE_BINARY_Sub, x, most, WE_NEW), WE_NEW);
    int32_t sum = we_emit_reduce(l, WE_REDUCE_Sum, power, axes.reduced, WE_NEW);
    int32_t shifted = we_emit_unary(l, WE_UNARY_Log, sum, WE_NEW);
    finish(l, we_emit_binary(l, WE_BINARY_Add, shifted, most, WE_NEW));
}
