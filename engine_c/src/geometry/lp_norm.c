/* LpNormalization: x over its 1- or 2-norm along one axis; a row of zeros stays zeros. */
#include "geometry/parts.h"

void we_rule_lp_norm(we_lower *l) {
    int64_t p = we_node_int(l->call.node, "p", 2);
    bool reduced[WE_MAX_RANK] = {false};
    int32_t axis = 0;
    if (p != 1 && p != 2)
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'p' must be 1 or 2");
    if (l->status == WE_OK)
        l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), l->call.in[0]->rank, &axis);
    if (l->status != WE_OK || we_emit_if_empty(l))
        return;
    reduced[axis] = true;
    int32_t x = we_emit_wide(l, l->in[0]);
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    int32_t size =
        p == 1 ? we_emit_unary(l, WE_UNARY_Abs, x, WE_NEW) : we_emit_binary(l, WE_BINARY_Mul, x, x, WE_NEW);
    int32_t norm = we_emit_reduce(l, WE_REDUCE_Sum, size, reduced, WE_NEW);
    if (p == 2)
        norm = we_emit_unary(l, WE_UNARY_Sqrt, norm, WE_NEW);
    int32_t none = we_emit_binary(l, WE_BINARY_Equal, norm, we_lower_scalar(l, dtype, 0), WE_NEW);
    norm = we_emit_select(l, none, we_lower_scalar(l, dtype, 1), norm, WE_NEW);
    we_emit_binary(l, WE_BINARY_Div, x, norm, l->out[0]);
}
