/* Rules of operators that slide a window: one raster that lines up what each tap sees, then a product or a
 * reduction. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"
#include "geometry/parts.h"
#include "geometry/window.h"

/* The output positions at which tap `tap` of dim i reads inside the input: [*first, *end). */
static void valid_range(const we_window *w, int32_t i, int64_t tap, int64_t *first, int64_t *end) {
    int64_t at = tap * w->dilation[i] - w->pad_begin[i]; /* input coordinate for output 0 */
    int64_t stride = w->stride[i], last = w->in[i] - 1 - at;
    *first = at < 0 ? (-at + stride - 1) / stride : 0;
    *end = last < 0 ? 0 : last / stride + 1;
    *end = *end < w->out[i] ? *end : w->out[i];
    *first = *first < *end ? *first : *end;
}

/* Fill `raster` with one region per tap: from x [N, C, in...] to [.. tap .., N, C, out...] laid out by
 * dst(n, c, tap, position) = n * n_step + c * c_step + tap * tap_step + position. */
static void line_up(we_lower *l, we_raster *raster, int32_t source, const we_tensor *x, const we_window *w,
                    int64_t n_step, int64_t c_step, int64_t tap_step) {
    int64_t strides[WE_MAX_RANK], out_strides[WE_MAX_SPATIAL];
    int64_t position[WE_MAX_SPATIAL] = {0};
    we_strides(x->rank, x->dims, strides);
    we_strides(w->rank, w->out, out_strides);
    for (int64_t tap = 0; tap < w->taps && l->status == WE_OK; tap++) {
        we_box box = {.rank = w->rank + 2, .dst_offset = tap * tap_step};
        box.size[0] = x->dims[0];
        box.src_stride[0] = strides[0];
        box.dst_stride[0] = n_step;
        box.size[1] = x->dims[1];
        box.src_stride[1] = strides[1];
        box.dst_stride[1] = c_step;
        for (int32_t i = 0; i < w->rank; i++) {
            int64_t first, end;
            valid_range(w, i, position[i], &first, &end);
            box.size[2 + i] = end - first;
            box.src_offset +=
                (first * w->stride[i] + position[i] * w->dilation[i] - w->pad_begin[i]) * strides[2 + i];
            box.src_stride[2 + i] = w->stride[i] * strides[2 + i];
            box.dst_offset += first * out_strides[i];
            box.dst_stride[2 + i] = out_strides[i];
        }
        we_raster_add(l, raster, source, &box);
        for (int32_t i = w->rank; i-- > 0 && ++position[i] == w->kernel[i];)
            position[i] = 0;
    }
}

int64_t we_window_positions(int32_t rank, const int64_t *dims) {
    int64_t count = 1;
    for (int32_t i = 0; i < rank; i++)
        count *= dims[i];
    return count;
}

/* out[n, g, o, p] = sum over (c, tap) of weight[g, o, (c, tap)] * columns[n, g, (c, tap), p] */
int32_t we_emit_window_product(we_lower *l, int32_t weight, int32_t columns, int32_t bias, int64_t group,
                               int32_t into) {
    we_tensor out = we_lower_tensor(l, into), seen = we_lower_tensor(l, columns);
    if (l->status != WE_OK)
        return into;
    int64_t channels = seen.dims[1], taps = seen.dims[2], positions = seen.dims[3];
    we_matmul p = {.m = out.dims[1] / group, .n = positions, .k = channels / group * taps, .batch_rank = 2};
    p.batch[0] = seen.dims[0];
    p.batch[1] = group;
    p.a_row = p.k;
    p.a_column = 1;
    p.a_batch[1] = p.m * p.k;
    p.b_row = positions;
    p.b_column = 1;
    p.b_batch[0] = channels * taps * positions;
    p.b_batch[1] = p.k * positions;
    int32_t sums = we_emit_matmul(l, weight, columns, &p, out.rank, out.dims, bias < 0 ? into : WE_NEW);
    if (bias < 0)
        return sums;
    int64_t bias_dims[WE_MAX_RANK] = {out.dims[1], 1, 1, 1};
    return we_emit_binary(l, WE_BINARY_Add, sums, we_emit_reshape(l, bias, out.rank - 1, bias_dims, WE_NEW),
                          into);
}

/* [N, C, taps, positions] of what every tap sees of x; nothing outside. */
static int32_t columns_of(we_lower *l, int32_t x, const we_window *w) {
    we_tensor from = we_lower_tensor(l, x);
    int64_t positions = we_window_positions(w->rank, w->out), channels = from.dims[1];
    int64_t column_dims[4] = {from.dims[0], channels, w->taps, positions};
    int32_t columns = we_lower_temp(l, from.dtype, 4, column_dims);
    we_raster raster = {0};
    line_up(l, &raster, x, &from, w, channels * w->taps * positions, w->taps * positions, positions);
    we_emit_raster(l, &raster, columns);
    return columns;
}

int32_t we_emit_conv(we_lower *l, int32_t x, int32_t weight, int32_t bias, const we_window *w, int64_t group,
                     int32_t into) {
    return we_emit_window_product(l, weight, columns_of(l, x, w), bias, group, into);
}

void we_rule_conv(we_lower *l) {
    we_window w;
    l->status = we_call_window(&l->call, l->call.in[1]->dims + 2, &w);
    int32_t bias = we_call_input(&l->call, 2) ? l->in[2] : -1;
    if (l->status == WE_OK)
        we_emit_conv(l, l->in[0], l->in[1], bias, &w, we_node_int(l->call.node, "group", 1), l->out[0]);
}

/* out[g, o, (c, tap)] = sum over (n, p) of gradient[n, g, o, p] * columns[n, g, (c, tap), p], where the sum
 * over n comes last. */
void we_rule_conv_filter_gradient(we_lower *l) {
    const bool reduced[WE_MAX_RANK] = {true};
    const we_tensor *gradient = l->call.in[1];
    we_window w;
    int64_t group = we_node_int(l->call.node, "group", 1);
    l->status = we_call_window(&l->call, NULL, &w);
    if (l->status != WE_OK)
        return;
    int64_t positions = we_window_positions(w.rank, w.out), items = gradient->dims[0];
    we_matmul p = {.m = gradient->dims[1] / group,
                   .n = l->call.in[0]->dims[1] / group * w.taps,
                   .k = positions,
                   .batch_rank = 2,
                   .batch = {items, group},
                   .a_row = positions,
                   .a_column = 1,
                   .b_row = 1,
                   .b_column = positions};
    p.a_batch[1] = p.m * positions;
    p.a_batch[0] = group * p.a_batch[1];
    p.b_batch[1] = p.n * positions;
    p.b_batch[0] = group * p.b_batch[1];
    int64_t dims[3] = {items, group * p.m, p.n};
    int32_t products = we_emit_matmul(l, l->in[1], columns_of(l, l->in[0], &w), &p, 3, dims, WE_NEW);
    we_emit_store(l, we_emit_reduce(l, WE_REDUCE_Sum, products, reduced, WE_NEW), l->out[0]);
}

int32_t we_emit_taps(we_lower *l, int32_t x, const we_window *w, double fill) {
    we_tensor from = we_lower_tensor(l, x);
    int64_t positions = we_window_positions(w->rank, w->out), planes = from.dims[0] * from.dims[1];
    int64_t dims[3] = {w->taps, planes, positions};
    int32_t taps = we_lower_temp(l, from.dtype, 3, dims);
    we_raster raster = {.fill = fill};
    line_up(l, &raster, x, &from, w, from.dims[1] * positions, positions, planes * positions);
    we_emit_raster(l, &raster, taps);
    return taps;
}

/* How many taps each output position counts: those inside the input, or inside input and padding. */
static int32_t counts_of(we_lower *l, const we_window *w, bool with_padding) {
    void *data;
    we_dtype dtype = l->call.in[0]->dtype;
    int64_t position[WE_MAX_SPATIAL] = {0};
    int32_t counts = we_lower_constant(l, WE_F64, w->rank, w->out, &data);
    int64_t positions = data ? we_window_positions(w->rank, w->out) : 0;
    for (int64_t p = 0; p < positions; p++) {
        double count = 1;
        for (int32_t i = 0; i < w->rank; i++) {
            int64_t inside = 0, low = with_padding ? -w->pad_begin[i] : 0;
            int64_t high = w->in[i] + (with_padding ? w->pad_end[i] : 0);
            for (int64_t tap = 0; tap < w->kernel[i]; tap++) {
                int64_t at = position[i] * w->stride[i] + tap * w->dilation[i] - w->pad_begin[i];
                inside += at >= low && at < high;
            }
            count *= (double)inside;
        }
        ((double *)data)[p] = count;
        for (int32_t i = w->rank; i-- > 0 && ++position[i] == w->out[i];)
            position[i] = 0;
    }
    return dtype == WE_F64 ? counts : we_emit_cast(l, counts, dtype, WE_NEW);
}

void we_rule_average_pool(we_lower *l) {
    we_window w;
    const bool reduced[WE_MAX_RANK] = {true};
    we_tensor out = we_lower_tensor(l, l->out[0]);
    l->status = we_call_window(&l->call, NULL, &w);
    if (l->status == WE_OK && we_dtype_kind(out.dtype) != 'f')
        we_lower_fail(l, WE_UNSUPPORTED, "an average of integers is not defined here");
    if (l->status != WE_OK)
        return;
    int32_t sums = we_lower_temp(l, out.dtype, out.rank, out.dims);
    we_emit_reduce(l, WE_REDUCE_Sum, we_emit_taps(l, l->in[0], &w, 0), reduced, sums);
    int32_t counts = counts_of(l, &w, we_node_int(l->call.node, "count_include_pad", 0) != 0);
    we_emit_binary(l, WE_BINARY_Div, sums, counts, l->out[0]);
}

static void spatial(const we_lower *l, bool *reduced) {
    for (int32_t i = 0; i < WE_MAX_RANK; i++)
        reduced[i] = i >= 2 && i < l->call.in[0]->rank;
}

void we_rule_global_average_pool(we_lower *l) {
    bool reduced[WE_MAX_RANK];
    spatial(l, reduced);
    we_emit_mean(l, l->in[0], reduced, l->out[0]);
}

void we_rule_global_max_pool(we_lower *l) {
    bool reduced[WE_MAX_RANK];
    spatial(l, reduced);
    we_emit_reduce(l, WE_REDUCE_Max, l->in[0], reduced, l->out[0]);
}
