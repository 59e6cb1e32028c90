#include "geometry/lower.h"

/* y = x / (1 + |x|) */
void we_rule_softsign(we_lower *l) {
    int32_t x = l->in[0], y = l->out[0];
    int32_t one = we_lower_scalar(l, l->call.in[0]->dtype, 1);
    int32_t size = we_emit_unary(l, WE_UNARY_Abs, x, WE_NEW);
    we_emit_binary(l, WE_BINARY_Div, x, we_emit_binary(l, WE_BINARY_Add, size, one, WE_NEW), y);
}
