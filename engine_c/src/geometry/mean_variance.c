/* MeanVarianceNormalization: (x - mean) / (deviation + 1e-9) over the stated axes. Source of the 1e-9: the
 * ONNX function body. */
#include "geometry/parts.h"

void we_rule_mean_variance(we_lower *l) {
    static const int64_t DEFAULT_AXES[] = {0, 2, 3};
    const we_attr *attr = we_node_attr(l->call.node, "axes");
    const int64_t *axes = attr ? attr->integers : DEFAULT_AXES;
    size_t count = attr ? attr->count : sizeof DEFAULT_AXES / sizeof *DEFAULT_AXES;
    bool reduced[WE_MAX_RANK] = {false};
    for (size_t i = 0; i < count && l->status == WE_OK; i++) {
        int32_t axis = 0;
        l->status = we_call_axis(&l->call, axes[i], l->call.in[0]->rank, &axis);
        reduced[axis] = true;
    }
    if (we_emit_if_empty(l))
        return;
    int32_t x = we_emit_wide(l, l->in[0]);
    int32_t mean = we_emit_mean(l, x, reduced, WE_NEW);
    int32_t centred = we_emit_binary(l, WE_BINARY_Sub, x, mean, WE_NEW);
    int32_t squares = we_emit_binary(l, WE_BINARY_Mul, centred, centred, WE_NEW);
    int32_t variance = we_emit_mean(l, squares, reduced, WE_NEW);
    int32_t deviation = we_emit_unary(l, WE_UNARY_Sqrt, variance, WE_NEW);
    deviation = we_emit_plus(l, deviation, 1e-9, WE_NEW);
    we_emit_binary(l, WE_BINARY_Div, centred, deviation, l->out[0]);
}
