/* Convolution of bytes where every channel has one filter of its own. The kernel reads rows of the image
 * where they lie, and one row of zero points in the place of those outside; windows that reach over its sides
 * see copies of what they cover, with zero points around. */
#include <string.h>

#include "backend/cpu/bytes.h"
#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"
#include "base/error.h"

enum {
    MOST_ROWS = 32,    /* of taps */
    ROW_STEPS = 50000, /* taps worth handing to a thread */
    EDGE = 64,
};

typedef struct parameters {
    we_conv conv;
    const we_tensor *weights, *weight_scale, *weight_zero, *bias; /* copies in the arena */
    int32_t zero;                                                 /* of the image */
    uint8_t flip;
    float in_scale, out_scale;
    we_byte_range range;
    /* Made at preparation. */
    int8_t *filters; /* [taps, channels] */
    int32_t *start;
    float *factor, *shift;
} parameters;

static const we_tensor *keep(const we_tensor *x, we_arena *arena) {
    we_tensor *copy = x ? we_arena_new(arena, sizeof *copy) : NULL;
    if (copy)
        *copy = *x;
    return copy;
}

static bool is_constant(const we_tensor *x) {
    return !x || x->kind == WE_TENSOR_CONST;
}

/* Weights are int8 without a zero point, or uint8 around 128. */
static bool is_centred(const parameters *p) {
    int64_t wanted = p->weights->dtype == WE_U8 ? WE_FLIP : 0;
    for (int64_t i = 0; i < p->weight_zero->count; i++) {
        if (we_tensor_integer(p->weight_zero, i) != wanted)
            return false;
    }
    return true;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *weights = call->in[3], *scale = call->in[4], *bias = we_call_input(call, 8);
    parameters *p = we_arena_new(arena, sizeof *p);
    *out = p;
    if (!p || weights->count == 0 || weights->dims[1] != 1 || !is_constant(weights) || !is_constant(scale) ||
        !is_constant(call->in[5]) || !is_constant(bias) || scale->dtype != WE_F32 ||
        !we_byte_input(call, 0) || !we_byte_input(call, 3) || !we_byte_input(call, 5))
        return false;
    p->conv.group = we_node_int(call->node, "group", 1);
    p->conv.channels = p->conv.filters = 1;
    p->weights = keep(weights, arena);
    p->weight_scale = keep(scale, arena);
    p->weight_zero = keep(call->in[5], arena);
    p->bias = keep(bias, arena);
    p->flip = we_byte_flip(call->in[0]->dtype);
    return weights->dims[0] == p->conv.group && p->weights && p->weight_scale && p->weight_zero &&
           we_conv_read_window(call, weights->dims + 2, &p->conv) && p->conv.w.kernel[0] <= MOST_ROWS &&
           is_centred(p) && we_byte_number(call, 1, &p->in_scale) && we_byte_zero(call, 2, &p->zero) &&
           we_byte_number(call, 6, &p->out_scale) && we_byte_read_range(call, 6, 7, &p->range);
}

/* A vector of 64 channels takes a few steps to be stored. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return (double)(c->items * c->group * c->positions) * (1 + (double)c->w.taps / 16);
}

static void set_channel(const parameters *p, int64_t c) {
    const uint8_t *from = (const uint8_t *)p->weights->data + c * p->conv.w.taps;
    uint8_t flip = p->weights->dtype == WE_U8 ? WE_FLIP : 0;
    int32_t sum = 0;
    for (int64_t t = 0; t < p->conv.w.taps; t++) {
        int8_t w = (int8_t)(from[t] ^ flip);
        p->filters[t * p->conv.group + c] = w;
        sum += w;
    }
    int32_t bias = p->bias && p->bias->dtype == WE_I32 ? ((const int32_t *)p->bias->data)[c] : 0;
    p->start[c] = (int32_t)((uint32_t)bias - (uint32_t)((p->zero + p->flip) * sum));
    const float *scales = p->weight_scale->data;
    p->factor[c] = p->in_scale * scales[p->weight_scale->count > 1 ? c : 0] / p->out_scale;
    if (p->shift)
        p->shift[c] = ((const float *)p->bias->data)[c] / p->out_scale;
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    size_t channels = (size_t)p->conv.group;
    bool shifts = p->bias && p->bias->dtype == WE_F32;
    p->filters = we_arena_new(&program->arena, channels * (size_t)p->conv.w.taps);
    p->start = we_arena_new(&program->arena, channels * sizeof *p->start);
    p->factor = we_arena_new(&program->arena, channels * sizeof *p->factor);
    p->shift = shifts ? we_arena_new(&program->arena, channels * sizeof *p->shift) : NULL;
    if (!p->filters || !p->start || !p->factor || (shifts && !p->shift))
        return we_error_no_memory(err);
    for (int64_t c = 0; c < p->conv.group; c++)
        set_channel(p, c);
    return WE_OK;
}

/* ---- Running ---- */

/* Of scratch: a row of zero points for all, then of each thread the window of one output. */
static int64_t row_bytes(const parameters *p) {
    const we_window *w = &p->conv.w;
    int64_t reach = (w->out[1] - 1) * w->stride[1] + (w->kernel[1] - 1) * w->dilation[1] + 1;
    return we_panels(reach * p->conv.group, EDGE) * EDGE;
}

static int64_t window_bytes(const parameters *p) {
    return we_panels(p->conv.w.taps * p->conv.group, EDGE) * EDGE;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    (void)program;
    return (size_t)(row_bytes(p) + window_bytes(p) * threads);
}

typedef struct job {
    const we_run *run;
    const we_command *command;
    const parameters *p;
    const uint8_t *zeros;
} job;

static we_byte_depthwise filter_of(const parameters *p, int64_t pitch) {
    const we_window *w = &p->conv.w;
    return (we_byte_depthwise){.channels = p->conv.group,
                               .row_count = (int32_t)w->kernel[0],
                               .columns = (int32_t)w->kernel[1],
                               .x_step = w->stride[1] * p->conv.group,
                               .x_column = w->dilation[1] * p->conv.group,
                               .y_step = pitch,
                               .flip = p->flip,
                               .weights = p->filters,
                               .start = p->start,
                               .how = {p->factor, p->shift, p->range}};
}

/* One output whose window is not all inside. */
static void filter_edge(const job *j, const uint8_t *const *rows, int64_t column, uint8_t *y) {
    const parameters *p = j->p;
    const we_window *w = &p->conv.w;
    int64_t n = p->conv.group, width = w->kernel[1] * n;
    uint8_t *window = (uint8_t *)j->run->scratch + row_bytes(p) + we_run_worker(j->run) * window_bytes(p);
    const uint8_t *copies[MOST_ROWS];
    we_byte_depthwise d = filter_of(p, n);
    d.count = 1;
    d.x_column = n;
    for (int64_t r = 0; r < w->kernel[0]; r++) {
        copies[r] = window + r * width;
        for (int64_t t = 0; t < w->kernel[1]; t++) {
            int64_t x = column * w->stride[1] - w->pad_begin[1] + t * w->dilation[1];
            bool inside = x >= 0 && x < w->in[1];
            memcpy(window + r * width + t * n, inside ? rows[r] + x * n : j->zeros, (size_t)n);
        }
    }
    j->run->kernels->byte_depthwise(&d, copies, y);
}

static void filter_row(const job *j, int64_t item, int64_t row) {
    const parameters *p = j->p;
    const we_window *w = &p->conv.w;
    int64_t n = p->conv.group, pitch = we_conv_pitch(&p->conv, j->command), first, end, begin, last;
    const uint8_t *x = (const uint8_t *)we_run_in(j->run, j->command, 0) + item * w->in[0] * w->in[1] * n;
    uint8_t *y = we_conv_out(j->run, j->command, (item * w->out[0] + row) * w->out[1] * pitch);
    const uint8_t *rows[MOST_ROWS], *starts[MOST_ROWS];
    for (int64_t r = 0; r < w->kernel[0]; r++) {
        int64_t at = row * w->stride[0] - w->pad_begin[0] + r * w->dilation[0];
        rows[r] = at >= 0 && at < w->in[0] ? x + at * w->in[1] * n : j->zeros;
    }
    /* Outputs [first, end) see nothing outside. */
    for (first = 0; first < w->out[1]; first++) {
        we_conv_inside(w, 1, first, &begin, &last);
        if (begin == 0 && last == w->kernel[1])
            break;
        filter_edge(j, rows, first, y + first * pitch);
    }
    for (end = w->out[1]; end > first; end--) {
        we_conv_inside(w, 1, end - 1, &begin, &last);
        if (begin == 0 && last == w->kernel[1])
            break;
        filter_edge(j, rows, end - 1, y + (end - 1) * pitch);
    }
    if (first == end)
        return;
    we_byte_depthwise d = filter_of(p, pitch);
    d.count = end - first;
    for (int64_t r = 0; r < w->kernel[0]; r++)
        starts[r] = rows[r] == j->zeros ? j->zeros : rows[r] + (first * w->stride[1] - w->pad_begin[1]) * n;
    j->run->kernels->byte_depthwise(&d, starts, y + first * pitch);
}

static void filter_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++)
        filter_row(j, i / j->p->conv.w.out[0], i % j->p->conv.w.out[0]);
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    job j = {run, command, p, run->scratch};
    int64_t steps = c->w.out[1] * c->group * c->w.taps;
    memset(run->scratch, p->zero, (size_t)row_bytes(p));
    we_parallel_for(run->pool, c->items * c->w.out[0], 1 + ROW_STEPS / (steps + 1), filter_rows, &j);
}

const we_claim_methods we_claim_byte_depthwise = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .channels_last = true,
    .places = true,
};
