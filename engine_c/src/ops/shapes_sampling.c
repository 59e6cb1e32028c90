/* Shape functions of sampling operators and of Fourier transforms. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "ops/shapes.h"

static bool is_one_of(const char *value, const char *const *known) {
    while (*known && strcmp(value, *known) != 0)
        known++;
    return *known != NULL;
}

static we_status check_named(const we_call *call, const char *attribute, const char *fallback,
                             const char *const *known) {
    const char *value = we_node_string(call->node, attribute, fallback);
    return is_one_of(value, known)
               ? WE_OK
               : WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute '%s' cannot be '%.30s'", attribute, value);
}

we_status we_shape_grid_sample(const we_call *call, we_tensor *out) {
    static const char *const MODES[] = {"linear", "bilinear", "cubic", "bicubic", "nearest", NULL};
    static const char *const PADDINGS[] = {"zeros", "border", "reflection", NULL};
    const we_tensor *x = call->in[0], *grid = call->in[1];
    WE_TRY(check_named(call, "mode", "linear", MODES));
    WE_TRY(check_named(call, "padding_mode", "zeros", PADDINGS));
    if (x->rank < 3 || x->rank > 2 + WE_MAX_SPATIAL || grid->rank != x->rank || grid->dims[0] != x->dims[0] ||
        grid->dims[grid->rank - 1] != x->rank - 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the input must be [N, C, 1 to 3 dims], the grid [N, as many dims, coordinates]");
    we_shape_set(out, x->dtype, x->rank, x->dims);
    memcpy(out->dims + 2, grid->dims + 1, (size_t)(x->rank - 2) * sizeof *out->dims);
    for (int32_t i = 2; i < x->rank; i++) {
        if (x->dims[i] == 0)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "there is nothing to sample: dim %d is 0", (int)i);
    }
    return WE_OK;
}

we_status we_shape_roi_align(const we_call *call, we_tensor *out) {
    static const char *const MODES[] = {"avg", "max", NULL};
    static const char *const SHIFTS[] = {"half_pixel", "output_half_pixel", NULL};
    const we_tensor *x = call->in[0], *rois = call->in[1], *batch = call->in[2];
    int64_t height = we_node_int(call->node, "output_height", 1);
    int64_t width = we_node_int(call->node, "output_width", 1);
    int64_t ratio = we_node_int(call->node, "sampling_ratio", 0);
    WE_TRY(check_named(call, "mode", "avg", MODES));
    WE_TRY(check_named(call, "coordinate_transformation_mode", "half_pixel", SHIFTS));
    if (x->rank != 4 || rois->rank != 2 || rois->dims[1] != 4 || batch->rank != 1 ||
        batch->dims[0] != rois->dims[0] || x->dims[2] < 1 || x->dims[3] < 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the input must be [N, C, H, W], the regions [R, 4], the batch indices [R]");
    if (height < 1 || height > (1 << 20) || width < 1 || width > (1 << 20) || ratio < 0 || ratio > (1 << 12))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "an output size or the sampling ratio is illegal");
    we_shape_set(out, x->dtype, 4, (int64_t[4]){rois->dims[0], x->dims[1], height, width});
    return WE_OK;
}

we_status we_shape_deform_conv(const we_call *call, we_tensor *out) {
    const we_tensor *offset = call->in[2], *bias = we_call_input(call, 3), *mask = we_call_input(call, 4);
    int64_t groups = we_node_int(call->node, "offset_group", 1);
    we_node node = *call->node;
    we_call plain = *call;
    we_window w;
    node.input_count = 2;
    plain.node = &node;
    WE_TRY(we_shape_conv(&plain, out)); /* input and weight as those of Conv */
    WE_TRY(we_call_window(call, call->in[1]->dims + 2, &w));
    bool fits = groups >= 1 && groups <= call->in[0]->dims[1] && call->in[0]->dims[1] % groups == 0 &&
                offset->rank == out->rank && offset->dims[0] == out->dims[0] &&
                offset->dims[1] == groups * w.taps * w.rank;
    fits = fits && (!mask || (mask->rank == out->rank && mask->dims[0] == out->dims[0] &&
                              mask->dims[1] == groups * w.taps));
    for (int32_t i = 2; fits && i < out->rank; i++)
        fits = offset->dims[i] == out->dims[i] && (!mask || mask->dims[i] == out->dims[i]) &&
               call->in[0]->dims[i] > 0;
    if (!fits || (bias && (bias->rank != 1 || bias->dims[0] != out->dims[1])))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "offsets, mask or bias do not fit the window, the groups and the result");
    return WE_OK;
}

we_status we_call_unpooled(const we_call *call, int64_t *dims) {
    const we_tensor *x = call->in[0];
    int32_t rank = x->rank - 2;
    int64_t kernel[WE_MAX_SPATIAL], stride[WE_MAX_SPATIAL], pads[2 * WE_MAX_SPATIAL];
    if (rank < 1 || rank > WE_MAX_SPATIAL || !we_node_attr(call->node, "kernel_shape"))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "1 to 3 spatial dims and 'kernel_shape' are required");
    WE_TRY(we_call_attr_ints(call, "kernel_shape", rank, 1, 1, kernel));
    WE_TRY(we_call_attr_ints(call, "strides", rank, 1, 1, stride));
    WE_TRY(we_call_attr_ints(call, "pads", 2 * rank, 0, 0, pads));
    memcpy(dims, x->dims, 2 * sizeof *dims);
    for (int32_t i = 0; i < rank; i++) {
        if (x->dims[2 + i] < 1 || __builtin_mul_overflow(x->dims[2 + i] - 1, stride[i], &dims[2 + i]) ||
            dims[2 + i] > ((int64_t)1 << 46))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d is empty or absurdly large", (int)(2 + i));
        dims[2 + i] += kernel[i] - pads[i] - pads[rank + i];
        if (dims[2 + i] < 1)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d is cropped below nothing", (int)(2 + i));
    }
    return WE_OK;
}

we_status we_shape_max_unpool(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *indices = call->in[1];
    int32_t count;
    WE_TRY(we_call_unpooled(call, out->dims));
    out->dtype = x->dtype;
    out->rank = x->rank;
    if (indices->dtype != WE_I64 || indices->count != x->count)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "one I64 index per element is required");
    if (!we_call_input(call, 2))
        return WE_OK;
    WE_TRY(we_call_ints(call, 2, out->dims, WE_MAX_RANK, &count));
    if (count != x->rank || out->dims[0] != x->dims[0] || out->dims[1] != x->dims[1])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the wanted shape must keep batch and channels");
    return WE_OK;
}

we_status we_shape_det(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    if (x->rank < 2 || x->dims[x->rank - 1] != x->dims[x->rank - 2])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "square matrices are required");
    if (we_dtype_kind(x->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a floating-point type is required");
    we_shape_set(out, x->dtype, x->rank - 2, x->dims);
    return WE_OK;
}

/* ---- Fourier transforms ---- */

enum {
    LONGEST = 1 << 26, /* of one transform */
};

/* A constant whole number; the fallback where the input is omitted. */
static we_status whole(const we_call *call, int32_t input, int64_t fallback, int64_t *out) {
    int32_t count;
    *out = fallback;
    if (!we_call_input(call, input))
        return WE_OK;
    WE_TRY(we_call_ints(call, input, out, 1, &count));
    return count == 1 ? WE_OK
                      : WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d must be one number", (int)input);
}

we_status we_call_dft(const we_call *call, we_dft *out) {
    const we_tensor *x = call->in[0];
    bool inverse = we_node_int(call->node, "inverse", 0) != 0;
    bool onesided = we_node_int(call->node, "onesided", 0) != 0;
    int64_t axis;
    if (x->rank < 2 || (x->dims[x->rank - 1] != 1 && x->dims[x->rank - 1] != 2) ||
        we_dtype_kind(x->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "a floating-point input whose last dim is 1 (real) or 2 (complex) is required");
    WE_TRY(whole(call, 2, we_node_int(call->node, "axis", -2), &axis)); /* an attribute before opset 20 */
    WE_TRY(we_call_axis(call, axis, x->rank, &out->axis));
    if (out->axis == x->rank - 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the last axis holds real and imaginary parts");
    if (onesided && !inverse && x->dims[x->rank - 1] == 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "'onesided' needs real input");
    int64_t n = x->dims[out->axis];
    WE_TRY(whole(call, 1, onesided && inverse ? 2 * (n - 1) : n, &out->length));
    if (out->length < 1 || out->length > LONGEST)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a transform of length %lld", (long long)out->length);
    out->bins = onesided && !inverse ? out->length / 2 + 1 : out->length;
    return WE_OK;
}

we_status we_shape_dft(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    we_dft dft;
    WE_TRY(we_call_dft(call, &dft));
    we_shape_set(out, x->dtype, x->rank, x->dims);
    out->dims[dft.axis] = dft.bins;
    bool real = we_node_int(call->node, "inverse", 0) != 0 && we_node_int(call->node, "onesided", 0) != 0;
    out->dims[x->rank - 1] = real ? 1 : 2;
    return WE_OK;
}

we_status we_call_stft(const we_call *call, we_stft *out) {
    const we_tensor *x = call->in[0], *window = we_call_input(call, 2);
    if (x->rank != 3 || (x->dims[2] != 1 && x->dims[2] != 2) || we_dtype_kind(x->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the signal must be [batch, length, 1 or 2]");
    WE_TRY(whole(call, 1, 0, &out->step));
    WE_TRY(whole(call, 3, window ? window->count : x->dims[1], &out->length));
    if (window && (window->rank != 1 || window->count != out->length))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the window must have the frame's length");
    if (out->step < 1 || out->step > LONGEST || out->length < 1 || out->length > x->dims[1] ||
        out->length > LONGEST)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "frames of %lld, %lld apart, out of %lld",
                            (long long)out->length, (long long)out->step, (long long)x->dims[1]);
    out->frames = (x->dims[1] - out->length) / out->step + 1;
    return WE_OK;
}

we_status we_shape_stft(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    bool onesided = we_node_int(call->node, "onesided", 1) != 0;
    we_stft s;
    WE_TRY(we_call_stft(call, &s));
    if (onesided && x->dims[2] == 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "'onesided' needs a real signal");
    int64_t dims[4] = {x->dims[0], s.frames, onesided ? s.length / 2 + 1 : s.length, 2};
    we_shape_set(out, x->dtype, 4, dims);
    return WE_OK;
}
