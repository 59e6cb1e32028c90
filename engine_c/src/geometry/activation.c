/* Rules of activations, and of the mean of several inputs; x is the input. */
#include "geometry/lower.h"

static int32_t scalar(we_lower *l, double value) {
    return we_lower_scalar(l, l->call.in[0]->dtype, value);
}

static double attribute(const we_lower *l, const char *name, double fallback) {
    return we_node_float(l->call.node, name, fallback);
}

/* exp(x) - 1 of the negative part: the minimum keeps exp finite where it is not wanted. */
static int32_t negative_exp(we_lower *l, double divisor) {
    int32_t low = we_emit_binary(l, WE_BINARY_Min, l->in[0], scalar(l, 0), WE_NEW);
    if (divisor != 1)
        low = we_emit_binary(l, WE_BINARY_Div, low, scalar(l, divisor), WE_NEW);
    int32_t power = we_emit_unary(l, WE_UNARY_Exp, low, WE_NEW);
    return we_emit_binary(l, WE_BINARY_Sub, power, scalar(l, 1), WE_NEW);
}

/* max(0, x) + alpha * (exp(min(0, x) / alpha) - 1) */
void we_rule_celu(we_lower *l) {
    double alpha = attribute(l, "alpha", 1);
    if (alpha == 0) {
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'alpha' must not be 0");
        return;
    }
    int32_t bent = we_emit_binary(l, WE_BINARY_Mul, negative_exp(l, alpha), scalar(l, alpha), WE_NEW);
    int32_t high = we_emit_binary(l, WE_BINARY_Max, l->in[0], scalar(l, 0), WE_NEW);
    we_emit_binary(l, WE_BINARY_Add, high, bent, l->out[0]);
}

/* gamma * (x > 0 ? x : alpha * (exp(x) - 1)). Source of the constants: ONNX operator specification, Selu. */
void we_rule_selu(we_lower *l) {
    double alpha = attribute(l, "alpha", 1.67326319217681884765625);
    double gamma = attribute(l, "gamma", 1.05070102214813232421875);
    int32_t bent = we_emit_binary(l, WE_BINARY_Mul, negative_exp(l, 1), scalar(l, alpha), WE_NEW);
    int32_t high = we_emit_binary(l, WE_BINARY_Max, l->in[0], scalar(l, 0), WE_NEW);
    int32_t joined = we_emit_binary(l, WE_BINARY_Add, high, bent, WE_NEW);
    we_emit_binary(l, WE_BINARY_Mul, joined, scalar(l, gamma), l->out[0]);
}

void we_rule_mish(we_lower *l) {
    int32_t bent = we_emit_unary(l, WE_UNARY_Softplus, l->in[0], WE_NEW);
    bent = we_emit_unary(l, WE_UNARY_Tanh, bent, WE_NEW);
    we_emit_binary(l, WE_BINARY_Mul, l->in[0], bent, l->out[0]);
}

void we_rule_thresholded_relu(we_lower *l) {
    int32_t alpha = scalar(l, attribute(l, "alpha", 1));
    int32_t above = we_emit_binary(l, WE_BINARY_Greater, l->in[0], alpha, WE_NEW);
    we_emit_select(l, above, l->in[0], scalar(l, 0), l->out[0]);
}

/* x < -lambd ? x + bias : x > lambd ? x - bias : 0; integers are compared and shifted as floats.
 */
void we_rule_shrink(we_lower *l) {
    double lambd = attribute(l, "lambd", 0.5), bias = attribute(l, "bias", 0);
    we_dtype dtype = l->call.in[0]->dtype, wide = dtype == WE_F64 ? WE_F64 : WE_F32;
    int32_t x = dtype == wide ? l->in[0] : we_emit_cast(l, l->in[0], wide, WE_NEW);
    int32_t above = we_emit_binary(l, WE_BINARY_Greater, x, we_lower_scalar(l, wide, lambd), WE_NEW);
    int32_t below = we_emit_binary(l, WE_BINARY_Less, x, we_lower_scalar(l, wide, -lambd), WE_NEW);
    int32_t less = we_emit_binary(l, WE_BINARY_Sub, x, we_lower_scalar(l, wide, bias), WE_NEW);
    int32_t more = we_emit_binary(l, WE_BINARY_Add, x, we_lower_scalar(l, wide, bias), WE_NEW);
    int32_t inner = we_emit_select(l, above, less, we_lower_scalar(l, wide, 0), WE_NEW);
    int32_t result = we_emit_select(l, below, more, inner, dtype == wide ? l->out[0] : WE_NEW);
    if (dtype != wide)
        we_emit_cast(l, result, dtype, l->out[0]);
}

void we_rule_swish(we_lower *l) {
    double alpha = attribute(l, "alpha", 1);
    int32_t x = l->in[0];
    if (alpha != 1)
        x = we_emit_binary(l, WE_BINARY_Mul, x, scalar(l, alpha), WE_NEW);
    we_emit_binary(l, WE_BINARY_Mul, l->in[0], we_emit_unary(l, WE_UNARY_Sigmoid, x, WE_NEW), l->out[0]);
}

void we_rule_mean(we_lower *l) {
    int32_t count = l->call.node->input_count, sum = l->in[0];
    for (int32_t i = 1; i < count; i++)
        sum = we_emit_binary(l, WE_BINARY_Add, sum, l->in[i], WE_NEW);
    we_emit_binary(l, WE_BINARY_Div, sum, scalar(l, count), l->out[0]);
}
