/* Rules of bitwise operators, remainders, and tests for special values. */
#include <math.h>
#include <string.h>

#include "geometry/lower.h"

void we_rule_bit_shift(we_lower *l) {
    const char *direction = we_node_string(l->call.node, "direction", "");
    bool left = strcmp(direction, "LEFT") == 0;
    if (!left && strcmp(direction, "RIGHT") != 0)
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'direction' must be 'LEFT' or 'RIGHT'");
    we_emit_binary(l, left ? WE_BINARY_ShiftLeft : WE_BINARY_ShiftRight, l->in[0], l->in[1], l->out[0]);
}

void we_rule_mod(we_lower *l) {
    bool truncated = we_node_int(l->call.node, "fmod", 0) != 0;
    we_emit_binary(l, truncated ? WE_BINARY_Remainder : WE_BINARY_Mod, l->in[0], l->in[1], l->out[0]);
}

void we_rule_bitwise_not(we_lower *l) {
    int32_t ones = we_lower_scalar(l, l->call.in[0]->dtype, -1);
    we_emit_binary(l, WE_BINARY_BitwiseXor, l->in[0], ones, l->out[0]);
}

void we_rule_is_nan(we_lower *l) {
    int32_t number = we_emit_binary(l, WE_BINARY_Equal, l->in[0], l->in[0], WE_NEW);
    we_emit_binary(l, WE_BINARY_Equal, number, we_lower_scalar(l, WE_BOOL, 0), l->out[0]);
}

void we_rule_is_inf(we_lower *l) {
    bool negative = we_node_int(l->call.node, "detect_negative", 1) != 0;
    bool positive = we_node_int(l->call.node, "detect_positive", 1) != 0;
    /* Types without infinities must not find one where the constant saturates. */
    int32_t x = we_emit_cast(l, l->in[0], l->call.in[0]->dtype == WE_F64 ? WE_F64 : WE_F32, WE_NEW);
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    /* Two tests that look for what is not wanted become two for NaN, which nothing equals. */
    int32_t high = we_lower_scalar(l, dtype, positive ? INFINITY : NAN);
    int32_t low = we_lower_scalar(l, dtype, negative ? -INFINITY : NAN);
    int32_t above = we_emit_binary(l, WE_BINARY_Equal, x, high, WE_NEW);
    int32_t below = we_emit_binary(l, WE_BINARY_Equal, x, low, WE_NEW);
    we_emit_binary(l, WE_BINARY_Or, above, below, l->out[0]);
}
