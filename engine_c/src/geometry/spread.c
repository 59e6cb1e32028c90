/* Rules of operators whose windows overlap in the result. Regions may not overlap, so every tap gets a plane
 * of its own: what it adds to each position of the result, zero elsewhere; a product or a sum joins the
 * planes. */
#include <string.h>

#include "geometry/window.h"

/* The positions s of the window in dim i at which tap `tap` falls inside the result: [*first, *end). */
static void valid_range(const we_window *w, int32_t i, int64_t tap, int64_t *first, int64_t *end) {
    int64_t at = tap * w->dilation[i] - w->pad_begin[i]; /* coordinate in the result for s = 0 */
    int64_t stride = w->stride[i], last = w->out[i] - 1 - at;
    *first = at < 0 ? (-at + stride - 1) / stride : 0;
    *end = last < 0 ? 0 : last / stride + 1;
    *end = *end < w->in[i] ? *end : w->in[i];
    *first = *first < *end ? *first : *end;
}

int32_t we_emit_spread(we_lower *l, int32_t x, int64_t n, int64_t channels, int64_t tap_step,
                       const we_window *w, bool by_channel) {
    int64_t ins = we_window_positions(w->rank, w->in), outs = we_window_positions(w->rank, w->out);
    int64_t in_strides[WE_MAX_SPATIAL], out_strides[WE_MAX_SPATIAL], position[WE_MAX_SPATIAL] = {0};
    int64_t channel_step = tap_step ? w->taps * tap_step : ins;
    int64_t dims[4] = {w->taps, n * channels, outs}, channel_dims[4] = {n, channels, w->taps, outs};
    int32_t planes =
        we_lower_temp(l, we_lower_tensor(l, x).dtype, by_channel ? 4 : 3, by_channel ? channel_dims : dims);
    we_raster raster = {0};
    we_strides(w->rank, w->in, in_strides);
    we_strides(w->rank, w->out, out_strides);
    for (int64_t tap = 0; tap < w->taps && l->status == WE_OK; tap++) {
        we_box box = {.rank = w->rank + 1};
        box.size[0] = n * channels;
        box.src_stride[0] = channel_step;
        box.dst_stride[0] = by_channel ? w->taps * outs : outs;
        box.src_offset = tap * tap_step;
        box.dst_offset = tap * (by_channel ? outs : n * channels * outs);
        for (int32_t i = 0; i < w->rank; i++) {
            int64_t first, end;
            valid_range(w, i, position[i], &first, &end);
            box.size[1 + i] = end - first;
            box.src_offset += first * in_strides[i];
            box.src_stride[1 + i] = in_strides[i];
            box.dst_offset +=
                (first * w->stride[i] + position[i] * w->dilation[i] - w->pad_begin[i]) * out_strides[i];
            box.dst_stride[1 + i] = w->stride[i] * out_strides[i];
        }
        we_raster_add(l, &raster, x, &box);
        for (int32_t i = w->rank; i-- > 0 && ++position[i] == w->kernel[i];)
            position[i] = 0;
    }
    we_emit_raster(l, &raster, planes);
    return planes;
}

/* The weight [C, out / group, taps] turned to [group, out / group, C / group, taps]. */
static int32_t turned_weight(we_lower *l, int64_t group, int64_t taps) {
    const we_tensor *weight = l->call.in[1];
    int64_t dims[4] = {group, weight->dims[0] / group, weight->dims[1], taps};
    int32_t split = we_emit_reshape(l, l->in[1], 4, dims, WE_NEW);
    return we_emit_transpose(l, split, (int32_t[4]){0, 2, 1, 3}, WE_NEW);
}

void we_rule_conv_transpose(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int64_t group = we_node_int(l->call.node, "group", 1);
    we_window w;
    l->status = we_call_transposed_window(&l->call, l->call.in[1]->dims + 2, &w);
    if (l->status != WE_OK)
        return;
    int32_t columns = we_emit_spread(l, l->in[0], x->dims[0], x->dims[1], 0, &w, true);
    int32_t bias = we_call_input(&l->call, 2) ? l->in[2] : -1;
    we_emit_window_product(l, turned_weight(l, group, w.taps), columns, bias, group, l->out[0]);
}

void we_rule_col2im(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    const bool reduced[WE_MAX_RANK] = {true};
    we_window w;
    l->status = we_call_blocks(&l->call, &w);
    if (l->status != WE_OK)
        return;
    int32_t planes = we_emit_spread(l, l->in[0], x->dims[0], x->dims[1] / w.taps, x->dims[2], &w, false);
    we_emit_reduce(l, WE_REDUCE_Sum, planes, reduced, l->out[0]);
}
