/* Reading Resize and Upsample. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/ops.h"

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* The axes that are resized, in the order scales and sizes have. */
static we_status resized_axes(const we_call *call, int32_t *axes, int32_t *count) {
    const we_attr *attr = we_node_attr(call->node, "axes");
    int32_t rank = call->in[0]->rank;
    bool seen[WE_MAX_RANK] = {false};
    *count = attr ? (int32_t)attr->count : rank;
    if (attr && attr->count > (size_t)rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "more axes than dims");
    for (int32_t i = 0; i < *count; i++) {
        WE_TRY(we_call_axis(call, attr ? attr->integers[i] : i, rank, &axes[i]));
        if (seen[axes[i]])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "axis %d is given twice", (int)axes[i]);
        seen[axes[i]] = true;
    }
    return WE_OK;
}

/* Sizes shrink or grow together where the aspect ratio is kept. */
static we_status from_sizes(const we_call *call, const int32_t *axes, int32_t count, const int64_t *sizes,
                            we_resize *out) {
    const char *policy = we_node_string(call->node, "keep_aspect_ratio_policy", "stretch");
    bool larger = is(policy, "not_smaller");
    double joint = larger ? 0 : INFINITY;
    if (!larger && !is(policy, "not_larger") && !is(policy, "stretch"))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "keep_aspect_ratio_policy '%.30s' is unknown", policy);
    for (int32_t i = 0; i < count; i++) {
        double in = (double)call->in[0]->dims[axes[i]];
        if (sizes[i] < 0 || sizes[i] > ((int64_t)1 << 40) || (in == 0 && sizes[i] != 0))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d cannot be resized to %lld", (int)axes[i],
                                (long long)sizes[i]);
        double scale = in == 0 ? 1 : (double)sizes[i] / in;
        joint = larger ? fmax(joint, scale) : fmin(joint, scale);
        out->out[axes[i]] = sizes[i];
        out->scale[axes[i]] = scale;
    }
    for (int32_t i = 0; !is(policy, "stretch") && i < count; i++) {
        out->scale[axes[i]] = joint;
        out->out[axes[i]] = (int64_t)floor(joint * (double)call->in[0]->dims[axes[i]] + 0.5);
    }
    return WE_OK;
}

static we_status from_scales(const we_call *call, const int32_t *axes, int32_t count, const double *scales,
                             we_resize *out) {
    for (int32_t i = 0; i < count; i++) {
        double size = floor(scales[i] * (double)call->in[0]->dims[axes[i]]);
        if (!(scales[i] > 0) || !(size <= 0x1p40))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "scale %d is illegal", (int)i);
        out->scale[axes[i]] = scales[i];
        out->out[axes[i]] = (int64_t)size;
    }
    return WE_OK;
}

static we_status read_roi(const we_call *call, const int32_t *axes, int32_t count, we_resize *out) {
    double roi[2 * WE_MAX_RANK];
    int32_t given;
    WE_TRY(we_call_numbers(call, 1, roi, 2 * WE_MAX_RANK, &given));
    if (given != 2 * count)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the roi has %d entries for %d axes", (int)given,
                            (int)count);
    for (int32_t i = 0; i < count; i++) {
        out->start[axes[i]] = roi[i];
        out->end[axes[i]] = roi[count + i];
        if (!isfinite(roi[i]) || !isfinite(roi[count + i]))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the roi is not finite");
    }
    return WE_OK;
}

we_status we_call_resize(const we_call *call, int32_t scales_input, we_resize *out) {
    int32_t rank = call->in[0]->rank, axes[WE_MAX_RANK], count, scale_count, size_count = 0;
    double scales[WE_MAX_RANK];
    int64_t sizes[WE_MAX_RANK];
    for (int32_t i = 0; i < rank; i++) {
        out->out[i] = call->in[0]->dims[i];
        out->scale[i] = out->end[i] = 1;
        out->start[i] = 0;
    }
    WE_TRY(resized_axes(call, axes, &count));
    WE_TRY(we_call_numbers(call, scales_input, scales, WE_MAX_RANK, &scale_count));
    if (scales_input == 2)
        WE_TRY(we_call_ints(call, 3, sizes, WE_MAX_RANK, &size_count));
    if ((scale_count != 0) == (size_count != 0) && count != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "either scales or sizes are required");
    if (scale_count + size_count != count)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%d scales or sizes for %d axes",
                            (int)(scale_count + size_count), (int)count);
    WE_TRY(scale_count ? from_scales(call, axes, count, scales, out)
                       : from_sizes(call, axes, count, sizes, out));
    bool cropped = is(we_node_string(call->node, "coordinate_transformation_mode", ""), "tf_crop_and_resize");
    return cropped ? read_roi(call, axes, count, out) : WE_OK;
}
