/* Rules of pooling by maximum and by power. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "geometry/parts.h"
#include "geometry/window.h"

/* The I64 coordinate of dim i of the chosen tap: first coordinate of the window plus tap number times
 * dilation. */
static int32_t coordinate(we_lower *l, int32_t chosen, const we_window *w, int32_t i) {
    int64_t later = we_window_positions(w->rank - i - 1, w->kernel + i + 1), *first;
    int64_t later_out = we_window_positions(w->rank - i - 1, w->out + i + 1), dims[1];
    int32_t steps =
        we_emit_binary(l, WE_BINARY_Div, chosen, we_lower_scalar(l, WE_I64, (double)later), WE_NEW);
    int32_t whole = we_lower_scalar(l, WE_I64, (double)w->kernel[i]);
    int32_t rounds = we_emit_binary(l, WE_BINARY_Div, steps, whole, WE_NEW);
    rounds = we_emit_binary(l, WE_BINARY_Mul, rounds, whole, WE_NEW);
    steps = we_emit_binary(l, WE_BINARY_Sub, steps, rounds, WE_NEW); /* the tap's number within its dim */
    steps =
        we_emit_binary(l, WE_BINARY_Mul, steps, we_lower_scalar(l, WE_I64, (double)w->dilation[i]), WE_NEW);
    dims[0] = we_window_positions(w->rank, w->out);
    int32_t start = we_lower_constant(l, WE_I64, 1, dims, (void **)&first);
    for (int64_t p = 0; first && p < dims[0]; p++)
        first[p] = p / later_out % w->out[i] * w->stride[i] - w->pad_begin[i];
    /* Clipping matters only where padding ties with a lowest value of the input. */
    int32_t at = we_emit_binary(l, WE_BINARY_Add, steps, start, WE_NEW);
    at = we_emit_binary(l, WE_BINARY_Max, at, we_lower_scalar(l, WE_I64, 0), WE_NEW);
    return we_emit_binary(l, WE_BINARY_Min, at, we_lower_scalar(l, WE_I64, (double)(w->in[i] - 1)), WE_NEW);
}

/* Where in x each largest element lies: the number of its tap, turned into coordinates, turned into an index.
 */
static void emit_indices(we_lower *l, int32_t taps, const we_window *w) {
    we_tensor seen = we_lower_tensor(l, taps);
    bool by_column = we_node_int(l->call.node, "storage_order", 0) == 1;
    int64_t dims[2] = {seen.dims[1], seen.dims[2]}, plane = we_window_positions(w->rank, w->in);
    if (l->status != WE_OK)
        return;
    int32_t index = we_lower_temp(l, WE_I64, 2, dims);
    we_command command = {.kind = WE_COMMAND_ARG, .node = l->node, .in = {taps, -1, -1}, .out = index};
    command.u.arg.largest = true;
    command.u.arg.outer = 1;
    command.u.arg.k = w->taps;
    command.u.arg.inner = dims[0] * dims[1];
    if (l->status == WE_OK)
        l->status = we_program_command(l->program, &command, l->call.err);
    int32_t chosen = index, sum = -1;
    for (int32_t i = 0; i < w->rank; i++) {
        int64_t step =
            by_column ? we_window_positions(i, w->in) : we_window_positions(w->rank - i - 1, w->in + i + 1);
        int32_t part = we_emit_binary(l, WE_BINARY_Mul, coordinate(l, chosen, w, i),
                                      we_lower_scalar(l, WE_I64, (double)step), WE_NEW);
        sum = i == 0 ? part : we_emit_binary(l, WE_BINARY_Add, sum, part, WE_NEW);
    }
    int64_t *starts, start_dims[2] = {dims[0], 1};
    int32_t planes = we_lower_constant(l, WE_I64, 2, start_dims, (void **)&starts);
    for (int64_t i = 0; starts && i < dims[0]; i++)
        starts[i] = i * plane;
    sum = we_emit_binary(l, WE_BINARY_Add, sum, planes, WE_NEW);
    we_tensor out = we_lower_tensor(l, l->out[1]);
    we_emit_reshape(l, sum, out.rank, out.dims, l->out[1]);
}

void we_rule_max_pool(we_lower *l) {
    we_window w;
    const bool reduced[WE_MAX_RANK] = {true};
    l->status = we_call_window(&l->call, NULL, &w);
    if (l->status != WE_OK)
        return;
    int32_t x = l->in[0];
    bool indexed = l->call.node->output_count > 1;
    /* Padding must lose against the lowest value of a narrow integer. */
    if (indexed && we_dtype_kind(l->call.in[0]->dtype) != 'f' && we_dtype_size(l->call.in[0]->dtype) < 4)
        x = we_emit_cast(l, x, WE_I32, WE_NEW);
    int32_t taps = we_emit_taps(l, x, &w, -INFINITY);
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int32_t most = x == l->in[0] ? l->out[0] : we_lower_temp(l, WE_I32, out.rank, out.dims);
    we_emit_reduce(l, WE_REDUCE_Max, taps, reduced, most);
    if (most != l->out[0])
        we_emit_cast(l, most, out.dtype, l->out[0]);
    if (indexed)
        emit_indices(l, taps, &w);
}

/* Each output's gradient goes to the first of the taps that are its largest: planes of what every tap gets,
 * joined where they overlap. */
void we_rule_max_pool_gradient(we_lower *l) {
    we_window w;
    const bool reduced[WE_MAX_RANK] = {true};
    l->status = we_call_window(&l->call, NULL, &w);
    if (l->status != WE_OK)
        return;
    const we_tensor *x = l->call.in[0];
    int32_t taps = we_emit_taps(l, l->in[0], &w, -INFINITY); /* [taps, N * C, positions] */
    const we_tensor seen = we_lower_tensor(l, taps);
    int64_t each[3] = {1, seen.dims[1], seen.dims[2]};
    int32_t chosen = we_emit_arg(l, true, false, taps, 0, WE_NEW);
    int32_t places = we_emit_range(l, 0, 3, (int64_t[]){w.taps, 1, 1});
    int32_t hit = we_emit_binary(l, WE_BINARY_Equal, places, chosen, WE_NEW);
    int32_t slope = we_emit_reshape(l, l->in[2], 3, each, WE_NEW);
    int32_t part = we_emit_select(l, hit, slope, we_lower_scalar(l, x->dtype, 0), WE_NEW);
    int32_t by_plane = we_emit_transpose(l, part, (int32_t[]){1, 0, 2}, WE_NEW);
    we_window back = w;
    memcpy(back.in, w.out, sizeof back.in);
    memcpy(back.out, w.in, sizeof back.out);
    int32_t planes = we_emit_spread(l, by_plane, 1, seen.dims[1], seen.dims[2], &back, false);
    we_emit_store(l, we_emit_reduce(l, WE_REDUCE_Sum, planes, reduced, WE_NEW), l->out[0]);
}

/* ---- Powers: (sum of |x|^p)^(1/p) ---- */

static int32_t power(we_lower *l, int32_t x, double exponent, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    if (exponent == 1 && into == WE_NEW)
        return x;
    if (exponent == 1)
        return we_emit_reshape(l, x, from.rank, from.dims, into);
    if (exponent == 2)
        return we_emit_binary(l, WE_BINARY_Mul, x, x, into);
    if (exponent == 0.5)
        return we_emit_unary(l, WE_UNARY_Sqrt, x, into);
    return we_emit_binary(l, WE_BINARY_Pow, x, we_lower_scalar(l, from.dtype, exponent), into);
}

static double order_of(we_lower *l) {
    int64_t p = we_node_int(l->call.node, "p", 2);
    if (p < 1)
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'p' must be positive");
    return (double)p;
}

static int32_t powers_of_input(we_lower *l, double p) {
    return power(l, we_emit_unary(l, WE_UNARY_Abs, l->in[0], WE_NEW), p, WE_NEW);
}

void we_rule_lp_pool(we_lower *l) {
    we_window w;
    const bool reduced[WE_MAX_RANK] = {true};
    we_tensor out = we_lower_tensor(l, l->out[0]);
    double p = order_of(l);
    we_status status = we_call_window(&l->call, NULL, &w);
    l->status = l->status == WE_OK ? status : l->status;
    if (l->status != WE_OK)
        return;
    int32_t sums = we_lower_temp(l, out.dtype, out.rank, out.dims);
    we_emit_reduce(l, WE_REDUCE_Sum, we_emit_taps(l, powers_of_input(l, p), &w, 0), reduced, sums);
    power(l, sums, 1 / p, l->out[0]);
}

void we_rule_global_lp_pool(we_lower *l) {
    bool reduced[WE_MAX_RANK];
    double p = order_of(l);
    for (int32_t i = 0; i < WE_MAX_RANK; i++)
        reduced[i] = i >= 2 && i < l->call.in[0]->rank;
    power(l, we_emit_reduce(l, WE_REDUCE_Sum, powers_of_input(l, p), reduced, WE_NEW), 1 / p, l->out[0]);
}

/* ---- Local response normalisation: x / (bias + alpha / size * sum of squares of `size` channels)^beta ----
 */

void we_rule_lrn(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    const we_node *node = l->call.node;
    const bool reduced[WE_MAX_RANK] = {true};
    int64_t size = we_node_int(node, "size", 1), before = (size - 1) / 2, channels = x->dims[1];
    int64_t inner = we_window_positions(x->rank - 2, x->dims + 2);
    int64_t first = before - (channels - 1) > 0 ? before - (channels - 1) : 0;
    int64_t end = size < before + channels ? size : before + channels;
    int64_t dims[4] = {end - first, x->dims[0], channels, inner};
    int32_t squares = we_emit_binary(l, WE_BINARY_Mul, l->in[0], l->in[0], WE_NEW);
    int32_t seen = we_lower_temp(l, x->dtype, 4, dims);
    we_raster raster = {0};
    for (int64_t j = first; j < end && l->status == WE_OK; j++) {
        int64_t shift = j - before, from = shift > 0 ? shift : 0, to = shift < 0 ? -shift : 0;
        int64_t count = channels - (shift < 0 ? -shift : shift);
        we_box box = {.rank = 2,
                      .size = {x->dims[0], count * inner},
                      .src_offset = from * inner,
                      .src_stride = {channels * inner, 1},
                      .dst_offset = (j - first) * x->count + to * inner,
                      .dst_stride = {channels * inner, 1}};
        we_raster_add(l, &raster, squares, &box);
    }
    we_emit_raster(l, &raster, seen);
    int32_t sums = we_lower_temp(l, x->dtype, x->rank, x->dims);
    we_emit_reduce(l, WE_REDUCE_Sum, seen, reduced, sums);
    double alpha = we_node_float(node, "alpha", 1e-4) / (double)size;
    int32_t scale = we_emit_binary(l, WE_BINARY_Mul, sums, we_lower_scalar(l, x->dtype, alpha), WE_NEW);
    int32_t bias = we_lower_scalar(l, x->dtype, we_node_float(node, "bias", 1));
    scale = we_emit_binary(l, WE_BINARY_Add, scale, bias, WE_NEW);
    scale = power(l, scale, we_node_float(node, "beta", 0.75), WE_NEW);
    we_emit_binary(l, WE_BINARY_Div, l->in[0], scale, l->out[0]);
}
