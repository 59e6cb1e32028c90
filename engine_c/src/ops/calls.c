/* Readings of attributes and constant inputs, used by shape functions and by rules alike. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/ops.h"

static const int64_t LARGE = (int64_t)1
                             << 40; /* window parameters past this are nonsense and could overflow */

const we_tensor *we_call_input(const we_call *call, int32_t index) {
    return index < call->node->input_count ? call->in[index] : NULL;
}

int64_t we_tensor_integer(const we_tensor *tensor, int64_t i) {
    switch (tensor->dtype) {
    case WE_I64:
    case WE_U64:
        return ((const int64_t *)tensor->data)[i];
    case WE_I32:
        return ((const int32_t *)tensor->data)[i];
    case WE_U32:
        return ((const uint32_t *)tensor->data)[i];
    case WE_I16:
        return ((const int16_t *)tensor->data)[i];
    case WE_U16:
        return ((const uint16_t *)tensor->data)[i];
    case WE_I8:
        return ((const int8_t *)tensor->data)[i];
    case WE_U8:
    case WE_BOOL:
        return ((const uint8_t *)tensor->data)[i];
    default:
        return 0;
    }
}

int64_t we_tensor_ordered(const we_tensor *tensor, int64_t i) {
    return we_tensor_integer(tensor, i) ^ (tensor->dtype == WE_U64 ? INT64_MIN : 0);
}

double we_tensor_number(const we_tensor *tensor, int64_t i) {
    switch (tensor->dtype) {
    case WE_F32:
        return ((const float *)tensor->data)[i];
    case WE_F64:
        return ((const double *)tensor->data)[i];
    case WE_F16:
        return we_f16_to_f32(((const uint16_t *)tensor->data)[i]);
    case WE_BF16:
        return we_bf16_to_f32(((const uint16_t *)tensor->data)[i]);
    default:
        return (double)we_tensor_integer(tensor, i);
    }
}

we_status we_call_known(const we_call *call, int32_t index, const we_tensor **out) {
    *out = we_call_input(call, index);
    if (*out && (*out)->kind != WE_TENSOR_CONST)
        return WE_CALL_FAIL(call, WE_UNSUPPORTED,
                            "input %d decides a shape and is only known while running; "
                            "make it a constant",
                            (int)index);
    return WE_OK;
}

we_status we_call_ints(const we_call *call, int32_t index, int64_t *out, int32_t room, int32_t *count) {
    const we_tensor *tensor = NULL;
    *count = 0;
    WE_TRY(we_call_known(call, index, &tensor));
    if (!tensor)
        return WE_OK;
    if (tensor->rank > 1 || (tensor->dtype != WE_I64 && tensor->dtype != WE_I32))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d must be a list of integers", (int)index);
    if (tensor->count > room)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d has %lld entries; at most %d make sense",
                            (int)index, (long long)tensor->count, (int)room);
    for (int64_t i = 0; i < tensor->count; i++)
        out[i] = we_tensor_integer(tensor, i);
    *count = (int32_t)tensor->count;
    return WE_OK;
}

we_status we_call_numbers(const we_call *call, int32_t index, double *out, int32_t room, int32_t *count) {
    const we_tensor *tensor = we_call_input(call, index);
    *count = 0;
    if (!tensor)
        return WE_OK;
    if (tensor->kind != WE_TENSOR_CONST)
        return WE_CALL_FAIL(call, WE_UNSUPPORTED,
                            "input %d decides a shape and is only known while running; "
                            "make it a constant",
                            (int)index);
    if (tensor->rank > 1 || tensor->count > room)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d must be a list of at most %d numbers",
                            (int)index, (int)room);
    for (int64_t i = 0; i < tensor->count; i++)
        out[i] = we_tensor_number(tensor, i);
    *count = (int32_t)tensor->count;
    return WE_OK;
}

we_status we_call_axis(const we_call *call, int64_t axis, int32_t rank, int32_t *out) {
    if (axis < -(int64_t)rank || axis >= rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "axis %lld is outside a tensor of rank %d",
                            (long long)axis, (int)rank);
    *out = (int32_t)(axis < 0 ? axis + rank : axis);
    return WE_OK;
}

we_status we_call_axes(const we_call *call, we_axes *out) {
    int64_t axes[WE_MAX_RANK];
    int32_t count = 0, rank = call->in[0]->rank;
    const we_attr *attr = we_node_attr(call->node, "axes");
    memset(out, 0, sizeof *out);
    out->keep = we_node_int(call->node, "keepdims", 1) != 0;
    if (attr) {
        if (attr->count > WE_MAX_RANK)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "more axes than dims");
        count = (int32_t)attr->count;
        memcpy(axes, attr->integers, attr->count * sizeof *axes);
    } else {
        WE_TRY(we_call_ints(call, 1, axes, WE_MAX_RANK, &count));
    }
    if (count == 0) {
        bool all = we_node_int(call->node, "noop_with_empty_axes", 0) == 0;
        for (int32_t i = 0; i < rank; i++)
            out->reduced[i] = all;
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = 0;
        WE_TRY(we_call_axis(call, axes[i], rank, &axis));
        out->reduced[axis] = true;
    }
    return WE_OK;
}

we_status we_call_attr_ints(const we_call *call, const char *name, int32_t count, int64_t fallback,
                            int64_t least, int64_t *out) {
    const we_attr *attr = we_node_attr(call->node, name);
    if (attr && attr->count != (size_t)count)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute '%s' has %zu entries, not %d", name,
                            attr->count, (int)count);
    for (int32_t i = 0; i < count; i++) {
        out[i] = attr ? attr->integers[i] : fallback;
        if (out[i] < least || out[i] > LARGE)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute '%s' holds the illegal value %lld", name,
                                (long long)out[i]);
    }
    return WE_OK;
}

/* Output extent and paddings of one spatial dim. Source: ONNX operator specification, Conv and MaxPool. */
static we_status place_window(const we_call *call, const char *auto_pad, bool ceil_mode, int32_t i,
                              we_window *w) {
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    if (strcmp(auto_pad, "SAME_UPPER") == 0 || strcmp(auto_pad, "SAME_LOWER") == 0) {
        w->out[i] = (w->in[i] + w->stride[i] - 1) / w->stride[i];
        int64_t total = (w->out[i] - 1) * w->stride[i] + reach - w->in[i];
        total = total > 0 ? total : 0;
        w->pad_begin[i] = strcmp(auto_pad, "SAME_UPPER") == 0 ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad_begin[i];
        return WE_OK;
    }
    if (strcmp(auto_pad, "VALID") == 0) {
        w->pad_begin[i] = w->pad_end[i] = 0;
    } else if (strcmp(auto_pad, "NOTSET") != 0) {
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "auto_pad '%.30s' is unknown", auto_pad);
    }
    int64_t span = w->in[i] + w->pad_begin[i] + w->pad_end[i] - reach;
    if (span < 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the window (%lld) is larger than the padded input (%lld)", (long long)reach,
                            (long long)(span + reach));
    w->out[i] = span / w->stride[i] + 1;
    /* Rounding up adds a window only if it starts inside the input or its leading padding. */
    if (ceil_mode && span % w->stride[i] && w->out[i] * w->stride[i] < w->in[i] + w->pad_begin[i])
        w->out[i]++;
    return WE_OK;
}

we_status we_call_window(const we_call *call, const int64_t *kernel_of_weight, we_window *out) {
    const we_tensor *x = call->in[0];
    int32_t rank = x->rank - 2;
    int64_t pads[2 * WE_MAX_SPATIAL];
    memset(out, 0, sizeof *out);
    if (rank < 1 || rank > WE_MAX_SPATIAL)
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "%d spatial dims; 1 to %d are supported", (int)rank,
                            WE_MAX_SPATIAL);
    out->rank = rank;
    if (kernel_of_weight && !we_node_attr(call->node, "kernel_shape")) {
        memcpy(out->kernel, kernel_of_weight, (size_t)rank * sizeof *kernel_of_weight);
    } else {
        if (!we_node_attr(call->node, "kernel_shape"))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'kernel_shape' is required");
        WE_TRY(we_call_attr_ints(call, "kernel_shape", rank, 1, 1, out->kernel));
    }
    for (int32_t i = 0; kernel_of_weight && i < rank; i++) {
        if (kernel_of_weight[i] != out->kernel[i] || out->kernel[i] < 1)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "kernel_shape does not match the weight's shape");
    }
    WE_TRY(we_call_attr_ints(call, "strides", rank, 1, 1, out->stride));
    WE_TRY(we_call_attr_ints(call, "dilations", rank, 1, 1, out->dilation));
    WE_TRY(we_call_attr_ints(call, "pads", 2 * rank, 0, 0, pads));
    out->taps = 1;
    for (int32_t i = 0; i < rank; i++) {
        out->in[i] = x->dims[2 + i];
        out->pad_begin[i] = pads[i];
        out->pad_end[i] = pads[rank + i];
        if (out->kernel[i] > (1 << 20) || out->dilation[i] > (1 << 20))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the window is absurdly large");
        WE_TRY(place_window(call, we_node_string(call->node, "auto_pad", "NOTSET"),
                            we_node_int(call->node, "ceil_mode", 0) != 0, i, out));
        out->taps *= out->kernel[i];
        if (out->taps > (1 << 20))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the window is absurdly large");
    }
    return WE_OK;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

we_status we_call_slice(const we_call *call, we_slice *out) {
    const we_tensor *x = call->in[0];
    int64_t starts[WE_MAX_RANK], ends[WE_MAX_RANK], axes[WE_MAX_RANK], steps[WE_MAX_RANK];
    int32_t count, end_count, axis_count, step_count;
    WE_TRY(we_call_ints(call, 1, starts, WE_MAX_RANK, &count));
    WE_TRY(we_call_ints(call, 2, ends, WE_MAX_RANK, &end_count));
    WE_TRY(we_call_ints(call, 3, axes, WE_MAX_RANK, &axis_count));
    WE_TRY(we_call_ints(call, 4, steps, WE_MAX_RANK, &step_count));
    if (end_count != count || (axis_count && axis_count != count) || (step_count && step_count != count))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "starts, ends, axes and steps have different lengths");
    for (int32_t i = 0; i < x->rank; i++) {
        out->start[i] = 0;
        out->step[i] = 1;
        out->size[i] = x->dims[i];
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = 0;
        WE_TRY(we_call_axis(call, axis_count ? axes[i] : i, x->rank, &axis));
        int64_t n = x->dims[axis], step = step_count ? steps[i] : 1;
        if (step == 0)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a step of 0");
        step = clamp(step, -LARGE, LARGE);
        int64_t start = starts[i] < 0 ? clamp(starts[i], -LARGE, 0) + n : starts[i];
        int64_t end = ends[i] < 0 ? clamp(ends[i], -LARGE, 0) + n : ends[i];
        start = step > 0 ? clamp(start, 0, n) : clamp(start, 0, n - 1);
        end = step > 0 ? clamp(end, 0, n) : clamp(end, -1, n - 1);
        int64_t distance = step > 0 ? end - start : start - end, stride = step > 0 ? step : -step;
        out->start[axis] = n ? start : 0;
        out->step[axis] = step;
        out->size[axis] = n && distance > 0 ? (distance + stride - 1) / stride : 0;
    }
    return WE_OK;
}

we_status we_call_split(const we_call *call, int32_t *axis, int64_t *sizes) {
    const we_tensor *x = call->in[0];
    int32_t count = 0, outputs = call->node->output_count;
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", 0), x->rank, axis));
    int64_t n = x->dims[*axis], total = 0;
    WE_TRY(we_call_ints(call, 1, sizes, outputs, &count));
    if (count == 0) {
        int64_t parts = we_node_int(call->node, "num_outputs", outputs);
        if (parts != outputs)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "num_outputs is %lld, but the node has %d outputs",
                                (long long)parts, (int)outputs);
        int64_t chunk = (n + outputs - 1) / outputs; /* the last part may be smaller */
        for (int32_t i = 0; i < outputs; i++)
            sizes[i] = clamp(n - i * chunk, 0, chunk);
        return WE_OK;
    }
    for (int32_t i = 0; i < count; i++) {
        if (sizes[i] < 0 || sizes[i] > n)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a part of %lld out of %lld", (long long)sizes[i],
                                (long long)n);
        total += sizes[i];
    }
    if (count != outputs || total != n)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the parts do not add up to the dim (%lld)",
                            (long long)n);
    return WE_OK;
}

we_status we_call_pads(const we_call *call, int64_t *begin, int64_t *end) {
    const we_tensor *x = call->in[0];
    int64_t pads[2 * WE_MAX_RANK], axes[WE_MAX_RANK];
    int32_t count, axis_count;
    WE_TRY(we_call_ints(call, 1, pads, 2 * WE_MAX_RANK, &count));
    WE_TRY(we_call_ints(call, 3, axes, WE_MAX_RANK, &axis_count));
    int32_t padded = we_call_input(call, 3) ? axis_count : x->rank;
    if (count != 2 * padded)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%d paddings for %d axes", (int)count, (int)padded);
    for (int32_t i = 0; i < x->rank; i++)
        begin[i] = end[i] = 0;
    for (int32_t i = 0; i < padded; i++) {
        int32_t axis = 0;
        WE_TRY(we_call_axis(call, we_call_input(call, 3) ? axes[i] : i, x->rank, &axis));
        begin[axis] = pads[i];
        end[axis] = pads[padded + i];
        if (begin[axis] < -LARGE || begin[axis] > LARGE || end[axis] < -LARGE || end[axis] > LARGE)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a padding is absurdly large");
    }
    return WE_OK;
}

bool we_broadcast(int32_t a_rank, const int64_t *a, int32_t b_rank, const int64_t *b, int32_t *rank,
                  int64_t *out) {
    int64_t joined[WE_MAX_RANK];
    *rank = a_rank > b_rank ? a_rank : b_rank;
    for (int32_t i = 1; i <= *rank; i++) {
        int64_t p = i <= a_rank ? a[a_rank - i] : 1, q = i <= b_rank ? b[b_rank - i] : 1;
        if (p != q && p != 1 && q != 1)
            return false;
        joined[*rank - i] = p == 1 ? q : p;
    }
    memcpy(out, joined, (size_t)*rank * sizeof *out);
    return true;
}
