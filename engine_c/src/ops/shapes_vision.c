/* Shape functions of operators on images and signals. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "ops/shapes.h"

static void same_as(const we_tensor *x, we_tensor *out) {
    out->dtype = x->dtype;
    out->rank = x->rank;
    memcpy(out->dims, x->dims, sizeof out->dims);
}

static we_status check_bias(const we_call *call, const we_tensor *bias, we_dtype dtype, int64_t channels) {
    if (bias && (bias->rank != 1 || bias->dims[0] != channels || bias->dtype != dtype))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the bias must have one entry per output channel (%lld)",
                            (long long)channels);
    return WE_OK;
}

we_status we_shape_max_pool(const we_call *call, we_tensor *out) {
    we_window window;
    int64_t order = we_node_int(call->node, "storage_order", 0);
    WE_TRY(we_call_window(call, NULL, &window));
    if (order != 0 && order != 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'storage_order' must be 0 or 1");
    for (int32_t i = 0; i < call->node->output_count; i++) {
        same_as(call->in[0], &out[i]);
        memcpy(out[i].dims + 2, window.out, (size_t)window.rank * sizeof *window.out);
        out[i].dtype = i == 0 ? out[i].dtype : WE_I64;
    }
    return WE_OK;
}

we_status we_shape_conv_transpose(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *w = call->in[1];
    int64_t group = we_node_int(call->node, "group", 1), channels = 0;
    we_window window;
    if (x->rank < 3 || w->rank != x->rank || w->dtype != x->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "input and weight must have one rank (3 or more) and one type");
    WE_TRY(we_call_transposed_window(call, w->dims + 2, &window));
    if (group < 1 || x->dims[1] != w->dims[0] || x->dims[1] % group ||
        __builtin_mul_overflow(w->dims[1], group, &channels))
        return WE_CALL_FAIL(
            call, WE_INVALID_MODEL, "%lld input channels, %lld x %lld weights and %lld groups do not fit",
            (long long)x->dims[1], (long long)w->dims[0], (long long)w->dims[1], (long long)group);
    WE_TRY(check_bias(call, we_call_input(call, 2), x->dtype, channels));
    same_as(x, out);
    out->dims[1] = channels;
    memcpy(out->dims + 2, window.out, (size_t)window.rank * sizeof *window.out);
    return WE_OK;
}

we_status we_shape_col2im(const we_call *call, we_tensor *out) {
    we_window window;
    WE_TRY(we_call_blocks(call, &window));
    same_as(call->in[0], out);
    out->rank = window.rank + 2;
    out->dims[1] /= window.taps;
    memcpy(out->dims + 2, window.out, (size_t)window.rank * sizeof *window.out);
    return WE_OK;
}

we_status we_shape_causal_conv(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *w = call->in[1], *state = we_call_input(call, 3);
    const char *activation = we_node_string(call->node, "activation", "none");
    if (strcmp(activation, "none") != 0 && strcmp(activation, "silu") != 0 &&
        strcmp(activation, "swish") != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "attribute 'activation' must be 'none', 'silu' or 'swish'");
    if (x->rank != 3 || w->rank != 3 || w->dtype != x->dtype || w->dims[0] != x->dims[1] || w->dims[1] != 1 ||
        w->dims[2] < 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the input must be [batch, channels, length] and the weight [channels, 1, k]");
    WE_TRY(check_bias(call, we_call_input(call, 2), x->dtype, x->dims[1]));
    if (state && (state->rank != 3 || state->dtype != x->dtype || state->dims[0] != x->dims[0] ||
                  state->dims[1] != x->dims[1] || state->dims[2] != w->dims[2] - 1))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the state must be [batch, channels, k - 1]");
    for (int32_t i = 0; i < call->node->output_count; i++)
        same_as(x, &out[i]);
    if (call->node->output_count > 1)
        out[1].dims[2] = w->dims[2] - 1;
    return WE_OK;
}

we_status we_shape_lrn(const we_call *call, we_tensor *out) {
    int64_t size = we_node_int(call->node, "size", 0);
    if (call->in[0]->rank < 2 || size < 1 || size > (1 << 20))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rank 2 or more and a positive 'size' are required");
    same_as(call->in[0], out);
    return WE_OK;
}
