#include "backend/cpu/bytes.h"

#include <math.h>

static const we_tensor *constant(const we_call *call, int32_t input) {
    const we_tensor *x = we_call_input(call, input);
    return x && x->kind == WE_TENSOR_CONST && x->count == 1 ? x : NULL;
}

bool we_byte_number(const we_call *call, int32_t input, float *out) {
    const we_tensor *x = constant(call, input);
    *out = 0;
    if (x)
        *out = (float)we_tensor_number(x, 0);
    return x && x->dtype == WE_F32;
}

bool we_byte_input(const we_call *call, int32_t input) {
    const we_tensor *x = we_call_input(call, input);
    return !x || we_is_byte(x);
}

bool we_byte_zero(const we_call *call, int32_t input, int32_t *out) {
    const we_tensor *x = constant(call, input);
    *out = x ? (int32_t)we_tensor_integer(x, 0) : 0;
    return x ? we_is_byte(x) : !we_call_input(call, input);
}

bool we_byte_read_range(const we_call *call, int32_t scale, int32_t zero, we_byte_range *out) {
    float y_scale;
    const we_tensor *zero_point = we_call_input(call, zero);
    if (!we_byte_number(call, scale, &y_scale) || !we_byte_zero(call, zero, &out->zero) || !(y_scale > 0))
        return false;
    bool is_signed = zero_point && zero_point->dtype == WE_I8;
    const float lowest = (float)((is_signed ? INT8_MIN : 0) - out->zero);
    out->low = lowest;
    out->high = (float)((is_signed ? INT8_MAX : UINT8_MAX) - out->zero);
    if (we_node_attr(call->node, "min"))
        out->low = fmaxf(out->low, rintf((float)we_node_float(call->node, "min", 0) / y_scale));
    if (we_node_attr(call->node, "max"))
        out->high =
            fmaxf(lowest, fminf(out->high, rintf((float)we_node_float(call->node, "max", 0) / y_scale)));
    out->low = fminf(out->low, out->high);
    return true;
}
