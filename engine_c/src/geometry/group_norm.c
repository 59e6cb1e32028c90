/* GroupNormalization: [N, C, ...] seen as [N, groups, C / groups, ...] is standardised over all but the first
 * two dims, then scaled and shifted per channel. InstanceNormalization has one channel per group. */
#include "geometry/parts.h"

static void normalise(we_lower *l, int64_t groups, we_dtype scaled_in) {
    const we_tensor *x = l->call.in[0];
    const bool reduced[WE_MAX_RANK] = {false, false, true};
    int64_t channel_dims[WE_MAX_RANK] = {x->dims[1], 1, 1, 1, 1, 1, 1, 1};
    int32_t mean, inverse;
    if (we_emit_if_empty(l))
        return;
    int64_t grouped[3] = {x->dims[0], groups, x->count / (x->dims[0] * groups)};
    int32_t data = we_emit_reshape(l, we_emit_wide(l, l->in[0]), 3, grouped, WE_NEW);
    double epsilon = we_node_float(l->call.node, "epsilon", 1e-5);
    int32_t normal = we_emit_standardise(l, data, reduced, epsilon, &mean, &inverse);
    normal = we_emit_reshape(l, we_emit_as(l, normal, scaled_in), x->rank, x->dims, WE_NEW);
    int32_t scale = we_emit_reshape(l, we_emit_as(l, l->in[1], scaled_in), x->rank - 1, channel_dims, WE_NEW);
    int32_t bias = we_emit_reshape(l, we_emit_as(l, l->in[2], scaled_in), x->rank - 1, channel_dims, WE_NEW);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Mul, normal, scale, WE_NEW);
    we_emit_binary(l, WE_BINARY_Add, scaled, bias, l->out[0]);
}

void we_rule_group_norm(we_lower *l) {
    normalise(l, we_node_int(l->call.node, "num_groups", 1), l->call.in[0]->dtype);
}

void we_rule_instance_norm(we_lower *l) {
    normalise(l, l->call.in[0]->dims[1], we_wide_type(l->call.in[0]->dtype));
}
