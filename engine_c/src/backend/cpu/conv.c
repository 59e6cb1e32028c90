#include "backend/cpu/conv.h"

void we_conv_widen(we_window *w) {
    w->kernel[1] = w->kernel[0], w->stride[1] = w->stride[0], w->dilation[1] = w->dilation[0];
    w->pad_begin[1] = w->pad_begin[0], w->pad_end[1] = w->pad_end[0];
    w->in[1] = w->in[0], w->out[1] = w->out[0];
    w->kernel[0] = w->stride[0] = w->dilation[0] = w->in[0] = w->out[0] = 1;
    w->pad_begin[0] = w->pad_end[0] = 0;
    w->rank = 2;
}

bool we_conv_read_window(const we_call *call, const int64_t *kernel, we_conv *c) {
    const we_tensor *x = call->in[0];
    if (x->rank > 4 || x->count == 0 || we_call_window(call, kernel, &c->w) != WE_OK)
        return false;
    c->items = x->dims[0];
    if (c->w.rank == 1)
        we_conv_widen(&c->w);
    c->positions = c->w.out[0] * c->w.out[1];
    return c->positions > 0;
}

/* The window of the convolution that a transposed one with steps of one is: borders are what the taps reach
 * less what was cut. */
static bool read_turned_window(const we_call *call, const int64_t *kernel, we_conv *c) {
    const we_tensor *x = call->in[0];
    if (x->dtype != WE_F32 || x->rank > 4 || x->count == 0 ||
        we_call_transposed_window(call, kernel, &c->w) != WE_OK)
        return false;
    for (int32_t i = 0; i < c->w.rank; i++) {
        int64_t reach = (c->w.kernel[i] - 1) * c->w.dilation[i];
        c->w.pad_begin[i] = reach - c->w.pad_begin[i];
        c->w.pad_end[i] = c->w.out[i] + reach - c->w.in[i] - c->w.pad_begin[i];
        if (c->w.stride[i] != 1 || c->w.pad_begin[i] < 0 || c->w.pad_end[i] < 0)
            return false;
    }
    c->items = x->dims[0];
    if (c->w.rank == 1)
        we_conv_widen(&c->w);
    c->positions = c->w.out[0] * c->w.out[1];
    return c->positions > 0;
}

bool we_conv_read_varying(const we_call *call, we_conv *out) {
    const we_tensor *x = call->in[0], *weights = call->in[1], *bias = we_call_input(call, 2);
    we_conv c = {.group = we_node_int(call->node, "group", 1),
                 .weights_vary = weights->kind != WE_TENSOR_CONST,
                 .bias_varies = bias && bias->kind != WE_TENSOR_CONST,
                 .turned = call->node->op == WE_OP_ConvTranspose};
    if (x->dtype != WE_F32 || weights->count == 0 || (c.turned && !c.weights_vary) ||
        !(c.turned ? read_turned_window : we_conv_read_window)(call, weights->dims + 2, &c))
        return false;
    c.channels = x->dims[1] / c.group;
    c.filters = c.turned ? weights->dims[1] : weights->dims[0] / c.group;
    c.weights = c.weights_vary ? NULL : weights->data;
    c.bias = bias && !c.bias_varies ? bias->data : NULL;
    *out = c;
    return true;
}

bool we_conv_read(const we_call *call, we_conv *out) {
    return we_conv_read_varying(call, out) && !out->weights_vary && !out->bias_varies;
}

bool we_conv_has_small_groups(const we_conv *c) {
    enum { FEWEST = 8 };
    return c->group > 1 && (c->channels < FEWEST || c->filters < FEWEST);
}

we_conv_steps we_conv_weight_steps(const we_conv *c) {
    const int64_t taps = c->w.taps, group = c->filters * c->channels * taps;
    if (c->turned)
        return (we_conv_steps){group, taps, c->filters * taps, -1, taps - 1};
    return (we_conv_steps){group, c->channels * taps, taps, 1, 0};
}

static bool read_pool(const we_call *call, we_conv *out) {
    *out = (we_conv){.group = call->in[0]->rank > 1 ? call->in[0]->dims[1] : 0, .channels = 1, .filters = 1};
    return call->node->output_count == 1 && we_conv_read_window(call, NULL, out);
}

bool we_pool_read(const we_call *call, we_conv *out) {
    return call->in[0]->dtype == WE_F32 && read_pool(call, out);
}

bool we_pool_read_bytes(const we_call *call, we_conv *out) {
    return (call->in[0]->dtype == WE_U8 || call->in[0]->dtype == WE_I8) && read_pool(call, out);
}

static bool is_inside(const we_window *w, int32_t i) {
    return w->pad_begin[i] == 0 &&
           (w->out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] < w->in[i];
}

bool we_pool_read_mean(const we_call *call, we_conv *out, bool *counts_padding) {
    if (!we_pool_read(call, out))
        return false;
    bool inside = is_inside(&out->w, 0) && is_inside(&out->w, 1);
    *counts_padding = inside || we_node_int(call->node, "count_include_pad", 0) != 0;
    /* Windows that begin in the last padding count differently. */
    return inside || !*counts_padding || we_node_int(call->node, "ceil_mode", 0) == 0;
}

void we_conv_inside(const we_window *w, int32_t i, int64_t at, int64_t *begin, int64_t *end) {
    int64_t first = at * w->stride[i] - w->pad_begin[i], step = w->dilation[i];
    *begin = first < 0 ? (-first + step - 1) / step : 0;
    *end = first >= w->in[i] ? 0 : (w->in[i] - first + step - 1) / step;
    *end = *end > w->kernel[i] ? w->kernel[i] : *end;
    *begin = *begin > *end ? *end : *begin;
}

/* ---- Stretches ---- */

typedef struct job {
    const we_run *run;
    const we_command *command;
    const we_conv *conv;
    we_conv_visit visit;
} job;

/* Outputs from `column` on whose windows see the same columns of taps. */
static int64_t alike(const we_window *w, int64_t column, int64_t begin, int64_t end) {
    int64_t count = 1, other_begin, other_end;
    for (; column + count < w->out[1]; count++) {
        we_conv_inside(w, 1, column + count, &other_begin, &other_end);
        if (other_begin != begin || other_end != end)
            break;
    }
    return count;
}

static void visit_row(const job *j, int64_t item, int64_t row) {
    const we_window *w = &j->conv->w;
    int64_t channels = we_conv_channels_in(j->conv), row_begin, row_end, begin, end, count;
    int64_t pitch = we_conv_pitch(j->conv, j->command);
    we_conv_inside(w, 0, row, &row_begin, &row_end);
    int64_t y = row * w->stride[0] - w->pad_begin[0] + row_begin * w->dilation[0];
    for (int64_t column = 0; column < w->out[1]; column += count) {
        we_conv_inside(w, 1, column, &begin, &end);
        count = alike(w, column, begin, end);
        int64_t x = column * w->stride[1] - w->pad_begin[1] + begin * w->dilation[1];
        we_conv_part part = {.stretch = {.channels = channels,
                                         .count = count,
                                         .rows = (int32_t)(row_end - row_begin),
                                         .columns = (int32_t)(end - begin),
                                         .x_step = w->stride[1] * channels,
                                         .x_row = w->dilation[0] * w->in[1] * channels,
                                         .x_column = w->dilation[1] * channels,
                                         .y_step = pitch},
                             .x = ((item * w->in[0] + y) * w->in[1] + x) * channels,
                             .y = ((item * w->out[0] + row) * w->out[1] + column) * pitch,
                             .row = (int32_t)row_begin,
                             .column = (int32_t)begin};
        if (part.stretch.rows == 0 || part.stretch.columns == 0)
            part.x = 0; /* nothing is read: keep the address inside */
        j->visit(j->run, j->command, &part);
    }
}

static void visit_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++)
        visit_row(j, i / j->conv->w.out[0], i % j->conv->w.out[0]);
}

enum {
    ROW_STEPS = 25000, /* taps worth handing to a thread: some 2 us */
};

void we_conv_each_part(const we_run *run, const we_command *command, const we_conv *conv,
                       we_conv_visit visit) {
    job j = {run, command, conv, visit};
    int64_t steps = conv->w.out[1] * we_conv_channels_in(conv) * conv->w.taps;
    we_parallel_for(run->pool, conv->items * conv->w.out[0], 1 + ROW_STEPS / (steps + 1), visit_rows, &j);
}
