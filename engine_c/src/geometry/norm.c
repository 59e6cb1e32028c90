/* Rules of reductions and of what normalises by them. */
#include <string.h>

#include "geometry/lower.h"

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

/* exp(x - max) over the axis; *sum gets its sum. Subtracting the maximum keeps exp within range. */
static int32_t shifted_exp(we_lower *l, int32_t *shifted, int32_t *sum) {
    bool reduced[WE_MAX_RANK] = {false};
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), l->call.in[0]->rank, &axis);
    reduced[axis] = true;
    int32_t most = we_emit_reduce(l, WE_REDUCE_Max, l->in[0], reduced, WE_NEW);
    *shifted = we_emit_binary(l, WE_BINARY_Sub, l->in[0], most, WE_NEW);
    int32_t power = we_emit_unary(l, WE_UNARY_Exp, *shifted, WE_NEW);
    *sum = we_emit_reduce(l, WE_REDUCE_Sum, power, reduced, WE_NEW);
    return power;
}

static bool empty_output(we_lower *l) {
    we_raster raster = {0};
    if (l->call.in[0]->count != 0)
        return false;
    we_emit_raster(l, &raster, l->out[0]);
    return true;
}

void we_rule_softmax(we_lower *l) {
    int32_t shifted, sum;
    if (empty_output(l))
        return;
    int32_t power = shifted_exp(l, &shifted, &sum);
    we_emit_binary(l, WE_BINARY_Div, power, sum, l->out[0]);
}

void we_rule_log_softmax(we_lower *l) {
    int32_t shifted, sum;
    if (empty_output(l))
        return;
    shifted_exp(l, &shifted, &sum);
    we_emit_binary(l, WE_BINARY_Sub, shifted, we_emit_unary(l, WE_UNARY_Log, sum, WE_NEW), l->out[0]);
}

/* y = x * s + (bias - mean * s), s = scale / sqrt(variance + epsilon): constants fold, two passes stay. */
void we_rule_batch_norm(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int64_t dims[WE_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    if (x->rank < 2) {
        we_lower_fail(l, WE_INVALID_MODEL, "rank 2 or more is required");
        return;
    }
    dims[0] = x->dims[1];
    int32_t parameter[5] = {0};
    for (int32_t i = 1; i < 5; i++) {
        if (l->call.in[i]->count != x->dims[1] || l->call.in[i]->dtype != x->dtype) {
            we_lower_fail(l, WE_INVALID_MODEL,
                          "each parameter must have one entry per channel, of the input's type");
            return;
        }
        parameter[i] = we_emit_reshape(l, l->in[i], x->rank - 1, dims, WE_NEW);
    }
    int32_t epsilon = we_lower_scalar(l, x->dtype, we_node_float(l->call.node, "epsilon", 1e-5));
    int32_t deviation = we_emit_binary(l, WE_BINARY_Add, parameter[4], epsilon, WE_NEW);
    deviation = we_emit_unary(l, WE_UNARY_Sqrt, deviation, WE_NEW);
    int32_t scale = we_emit_binary(l, WE_BINARY_Div, parameter[1], deviation, WE_NEW);
    int32_t moved = we_emit_binary(l, WE_BINARY_Mul, parameter[3], scale, WE_NEW);
    int32_t shift = we_emit_binary(l, WE_BINARY_Sub, parameter[2], moved, WE_NEW);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Mul, l->in[0], scale, WE_NEW);
    we_emit_binary(l, WE_BINARY_Add, scaled, shift, l->out[0]);
}

void we_rule_layer_norm(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    bool reduced[WE_MAX_RANK] = {false};
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), x->rank, &axis);
    if (empty_output(l))
        return;
    for (int32_t i = axis; i < x->rank; i++)
        reduced[i] = true;
    int32_t mean = we_emit_mean(l, l->in[0], reduced, WE_NEW);
    int32_t centred = we_emit_binary(l, WE_BINARY_Sub, l->in[0], mean, WE_NEW);
    int32_t squares = we_emit_binary(l, WE_BINARY_Mul, centred, centred, WE_NEW);
    int32_t variance = we_emit_mean(l, squares, reduced, WE_NEW);
    int32_t epsilon = we_lower_scalar(l, x->dtype, we_node_float(l->call.node, "epsilon", 1e-5));
    variance = we_emit_binary(l, WE_BINARY_Add, variance, epsilon, WE_NEW);
    int32_t deviation = we_emit_unary(l, WE_UNARY_Sqrt, variance, WE_NEW);
    int32_t normal = we_emit_binary(l, WE_BINARY_Div, centred, deviation, WE_NEW);
    bool shifted = we_call_input(&l->call, 2) != NULL;
    normal = we_emit_binary(l, WE_BINARY_Mul, normal, l->in[1], shifted ? WE_NEW : l->out[0]);
    if (shifted)
        we_emit_binary(l, WE_BINARY_Add, normal, l->in[2], l->out[0]);
}
