/* Swish: x * sigmoid(alpha * x), and SwiGLU: that times a second input. */
#include "geometry/parts.h"

static int32_t swish(we_lower *l, int32_t x, int32_t into) {
    double alpha = we_node_float(l->call.node, "alpha", 1);
    int32_t bent = alpha == 1 ? x : we_emit_times(l, x, alpha, WE_NEW);
    return we_emit_binary(l, WE_BINARY_Mul, x, we_emit_unary(l, WE_UNARY_Sigmoid, bent, WE_NEW), into);
}

void we_rule_swish(we_lower *l) {
    swish(l, we_emit_wide(l, l->in[0]), l->out[0]);
}

void we_rule_swiglu(we_lower *l) {
    int32_t gate = swish(l, we_emit_wide(l, l->in[0]), WE_NEW);
    we_emit_binary(l, WE_BINARY_Mul, gate, we_emit_wide(l, l->in[1]), l->out[0]);
}
