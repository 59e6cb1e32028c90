/* SwiGLU: a * sigmoid(alpha * a) * b, rounded once. */
#include "geometry/parts.h"

void we_rule_swiglu(we_lower *l) {
    double alpha = we_node_float(l->call.node, "alpha", 1);
    int32_t gate = we_emit_wide(l, l->in[0]);
    int32_t bent = alpha == 1 ? gate : we_emit_times(l, gate, alpha, WE_NEW);
    int32_t open = we_emit_unary(l, WE_UNARY_Sigmoid, bent, WE_NEW);
    gate = we_emit_binary(l, WE_BINARY_Mul, gate, open, WE_NEW);
    we_emit_binary(l, WE_BINARY_Mul, gate, we_emit_wide(l, l->in[1]), l->out[0]);
}
