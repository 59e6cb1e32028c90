/* Rules of reductions, and of the softmax operators. */
#include <string.h>

#include "geometry/lower.h"
#include "geometry/parts.h"

static we_reduce_fn reduce_of(int32_t op) {
    switch (op) {
    case WE_OP_ReduceProd:
        return WE_REDUCE_Prod;
    case WE_OP_ReduceMax:
        return WE_REDUCE_Max;
    case WE_OP_ReduceMin:
        return WE_REDUCE_Min;
    default:
        return WE_REDUCE_Sum;
    }
}

void we_rule_reduce(we_lower *l) {
    we_axes axes;
    l->status = we_call_axes(&l->call, &axes);
    we_emit_reduce(l, reduce_of(l->call.node->op), l->in[0], axes.reduced, l->out[0]);
}

void we_rule_reduce_mean(we_lower *l) {
    we_axes axes;
    l->status = we_call_axes(&l->call, &axes);
    we_emit_mean(l, l->in[0], axes.reduced, l->out[0]);
}

void we_rule_arg_reduce(we_lower *l) {
    const we_node *node = l->call.node;
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(node, "axis", 0), l->call.in[0]->rank, &axis);
    we_emit_arg(l, node->op == WE_OP_ArgMax, we_node_int(node, "select_last_index", 0) != 0, l->in[0], axis,
                l->out[0]);
}

/* The softmax operators: the axis, and the input in the type they are computed in. */
static int32_t softmax_axis(we_lower *l) {
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), l->call.in[0]->rank, &axis);
    return axis;
}

void we_rule_softmax(we_lower *l) {
    int32_t shifted, sum;
    if (we_emit_if_empty(l))
        return;
    int32_t axis = softmax_axis(l);
    int32_t power = we_emit_shifted_exp(l, we_emit_wide(l, l->in[0]), axis, false, &shifted, &sum);
    we_emit_binary(l, WE_BINARY_Div, power, sum, l->out[0]);
}

void we_rule_log_softmax(we_lower *l) {
    if (we_emit_if_empty(l))
        return;
    int32_t axis = softmax_axis(l);
    we_emit_log_softmax(l, we_emit_wide(l, l->in[0]), axis, l->out[0]);
}
