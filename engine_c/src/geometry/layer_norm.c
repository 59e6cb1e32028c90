/* LayerNormalization and RMSNormalization: the axes from `axis` on are standardised in the wide type; scale
 * and bias come in the type of the tensor, after one rounding to it, as the specification has it. */
#include "geometry/parts.h"

static void axes_from(we_lower *l, bool *reduced) {
    int32_t axis = 0, rank = l->call.in[0]->rank;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), rank, &axis);
    for (int32_t i = 0; i < rank; i++)
        reduced[i] = i >= axis;
}

void we_rule_layer_norm(we_lower *l) {
    bool reduced[WE_MAX_RANK] = {false}, shifted = we_call_input(&l->call, 2) != NULL;
    int32_t mean, inverse;
    axes_from(l, reduced);
    if (we_emit_if_empty(l))
        return;
    double epsilon = we_node_float(l->call.node, "epsilon", 1e-5);
    int32_t normal = we_emit_standardise(l, we_emit_wide(l, l->in[0]), reduced, epsilon, &mean, &inverse);
    normal = we_emit_as(l, normal, l->call.in[0]->dtype);
    normal = we_emit_binary(l, WE_BINARY_Mul, normal, l->in[1], shifted ? WE_NEW : l->out[0]);
    if (shifted)
        we_emit_binary(l, WE_BINARY_Add, normal, l->in[2], l->out[0]);
    if (l->call.node->output_count > 1)
        we_emit_store(l, mean, l->out[1]);
    if (l->call.node->output_count > 2)
        we_emit_store(l, inverse, l->out[2]);
}

/* x / sqrt(mean of squares + epsilon) * scale; the result has the type of the scale. */
void we_rule_rms_norm(we_lower *l) {
    bool reduced[WE_MAX_RANK] = {false};
    axes_from(l, reduced);
    if (we_emit_if_empty(l))
        return;
    int32_t x = we_emit_wide(l, l->in[0]);
    int32_t squares = we_emit_binary(l, WE_BINARY_Mul, x, x, WE_NEW);
    int32_t mean = we_emit_mean(l, squares, reduced, WE_NEW);
    mean = we_emit_plus(l, mean, we_node_float(l->call.node, "epsilon", 1e-5), WE_NEW);
    int32_t root = we_emit_unary(l, WE_UNARY_Sqrt, mean, WE_NEW);
    int32_t normal = we_emit_binary(l, WE_BINARY_Div, x, root, WE_NEW);
    normal = we_emit_as(l, normal, l->call.in[0]->dtype);
    normal = we_emit_as(l, normal, l->call.in[1]->dtype);
    we_emit_binary(l, WE_BINARY_Mul, normal, l->in[1], l->out[0]);
}
