/* Windows that spread instead of gather: ConvTranspose and Col2Im. */
#include <string.h>

#include "base/error.h"
#include "ops/ops.h"

enum {
    LARGEST = 1 << 20, /* kernels, strides and dilations past this are nonsense and could overflow */
};

/* Extent and paddings of one dim. Source: ONNX operator specification, ConvTranspose. */
static we_status place(const we_call *call, const char *auto_pad, int64_t wanted, int64_t extra, int32_t i,
                       we_window *w) {
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t full = w->stride[i] * (w->in[i] - 1) + extra + reach;
    bool same = strncmp(auto_pad, "SAME_", 5) == 0;
    if (wanted < 0 && same)
        wanted = w->in[i] * w->stride[i];
    if (wanted < 0) {
        w->out[i] = full - w->pad_begin[i] - w->pad_end[i];
    } else {
        int64_t total = full > wanted ? full - wanted : 0;
        w->out[i] = wanted;
        w->pad_begin[i] = strcmp(auto_pad, "SAME_UPPER") == 0 ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad_begin[i];
    }
    return w->out[i] >= 0 ? WE_OK
                          : WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d is cropped below nothing", (int)i);
}

we_status we_call_transposed_window(const we_call *call, const int64_t *kernel, we_window *w) {
    const we_tensor *x = call->in[0];
    const char *auto_pad = we_node_string(call->node, "auto_pad", "NOTSET");
    int64_t pads[2 * WE_MAX_SPATIAL], extra[WE_MAX_SPATIAL], wanted[WE_MAX_SPATIAL];
    memset(w, 0, sizeof *w);
    w->rank = x->rank - 2;
    w->taps = 1;
    if (w->rank < 1 || w->rank > WE_MAX_SPATIAL)
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "%d spatial dims; 1 to %d are supported", (int)w->rank,
                            WE_MAX_SPATIAL);
    if (strcmp(auto_pad, "NOTSET") != 0 && strcmp(auto_pad, "VALID") != 0 &&
        strcmp(auto_pad, "SAME_UPPER") != 0 && strcmp(auto_pad, "SAME_LOWER") != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "auto_pad '%.30s' is unknown", auto_pad);
    memcpy(w->kernel, kernel, (size_t)w->rank * sizeof *kernel);
    if (we_node_attr(call->node, "kernel_shape"))
        WE_TRY(we_call_attr_ints(call, "kernel_shape", w->rank, 1, 1, w->kernel));
    WE_TRY(we_call_attr_ints(call, "strides", w->rank, 1, 1, w->stride));
    WE_TRY(we_call_attr_ints(call, "dilations", w->rank, 1, 1, w->dilation));
    WE_TRY(we_call_attr_ints(call, "pads", 2 * w->rank, 0, 0, pads));
    WE_TRY(we_call_attr_ints(call, "output_padding", w->rank, 0, 0, extra));
    bool shaped = we_node_attr(call->node, "output_shape") != NULL;
    WE_TRY(we_call_attr_ints(call, "output_shape", w->rank, 0, 0, wanted));
    for (int32_t i = 0; i < w->rank; i++) {
        if (w->kernel[i] != kernel[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "kernel_shape does not match the weight's shape");
        w->in[i] = x->dims[2 + i];
        bool explicit_pads = strcmp(auto_pad, "NOTSET") == 0;
        w->pad_begin[i] = explicit_pads ? pads[i] : 0;
        w->pad_end[i] = explicit_pads ? pads[w->rank + i] : 0;
        if (w->kernel[i] < 1 || w->kernel[i] > LARGEST || w->stride[i] > LARGEST ||
            w->dilation[i] > LARGEST || w->in[i] > ((int64_t)1 << 40) || w->in[i] < 1)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the window is empty or absurdly large");
        WE_TRY(place(call, auto_pad, shaped ? wanted[i] : -1, extra[i], i, w));
        w->taps *= w->kernel[i];
        if (w->taps > LARGEST)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the window is absurdly large");
    }
    return WE_OK;
}

we_status we_call_blocks(const we_call *call, we_window *w) {
    const we_tensor *x = call->in[0];
    int64_t pads[2 * WE_MAX_SPATIAL];
    int32_t blocks;
    memset(w, 0, sizeof *w);
    w->taps = 1;
    WE_TRY(we_call_ints(call, 1, w->out, WE_MAX_SPATIAL, &w->rank));
    WE_TRY(we_call_ints(call, 2, w->kernel, WE_MAX_SPATIAL, &blocks));
    if (w->rank < 1 || blocks != w->rank || x->rank != 3)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the input must have rank 3, image_shape and block_shape one entry per dim");
    WE_TRY(we_call_attr_ints(call, "strides", w->rank, 1, 1, w->stride));
    WE_TRY(we_call_attr_ints(call, "dilations", w->rank, 1, 1, w->dilation));
    WE_TRY(we_call_attr_ints(call, "pads", 2 * w->rank, 0, 0, pads));
    int64_t positions = 1;
    for (int32_t i = 0; i < w->rank; i++) {
        w->pad_begin[i] = pads[i];
        w->pad_end[i] = pads[w->rank + i];
        if (w->out[i] < 1 || w->out[i] > ((int64_t)1 << 40) || w->kernel[i] < 1 || w->kernel[i] > LARGEST ||
            w->dilation[i] > LARGEST)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the image or the block is empty or absurdly large");
        int64_t span = w->out[i] + pads[i] + pads[w->rank + i] - ((w->kernel[i] - 1) * w->dilation[i] + 1);
        w->in[i] = span < 0 ? 0 : span / w->stride[i] + 1;
        w->taps *= w->kernel[i];
        if (w->taps > LARGEST || __builtin_mul_overflow(positions, w->in[i], &positions))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the block is absurdly large");
    }
    if (positions != x->dims[2] || x->dims[1] % w->taps)
        return WE_CALL_FAIL(
            call, WE_INVALID_MODEL, "%lld rows of %lld columns do not make blocks of %lld at %lld positions",
            (long long)x->dims[1], (long long)x->dims[2], (long long)w->taps, (long long)positions);
    return WE_OK;
}
