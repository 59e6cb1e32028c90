/* Gradients of convolutions where every channel has a filter of its own, by the image and by the weights.
 * Tensors are channels last, so a tap of a window is a stretch of channels either way: what it saw times the
 * gradient adds to the weight, the gradient times the weight to what it saw. */
#include <string.h>

#include "backend/cpu/conv.h"

enum {
    BLOCK = 64,     /* channels at once, at most */
    LEAST = 16,     /* and at least, where threads would have nothing to do else */
    MOST_TAPS = 64, /* so that those of a block stay in the first-level cache */
    STEPS = 2,      /* of a tap of an element */
};

typedef struct parameters {
    we_conv conv; /* of the convolution: in is the image */
} parameters;

static bool accept_conv(const we_conv *c, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || c->channels != 1 || c->filters != 1 || c->w.taps > MOST_TAPS)
        return false;
    p->conv = *c;
    *out = p;
    return true;
}

static bool accept_weights(const we_call *call, we_arena *arena, const void **out) {
    we_conv c = {.group = we_node_int(call->node, "group", 1)};
    if (call->in[0]->dtype != WE_F32 || !we_conv_read_window(call, NULL, &c) || call->in[1]->count == 0)
        return false;
    c.channels = call->in[0]->dims[1] / c.group;
    c.filters = call->in[1]->dims[1] / c.group;
    return accept_conv(&c, arena, out);
}

/* A transposed convolution: its result is the image. */
static bool accept_image(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0], *weights = call->in[1];
    we_conv c = {.group = we_node_int(call->node, "group", 1), .items = x->dims[0]};
    if (x->dtype != WE_F32 || x->rank > 4 || x->count == 0 || weights->kind == WE_TENSOR_CONST ||
        we_call_input(call, 2) || we_call_transposed_window(call, weights->dims + 2, &c.w) != WE_OK)
        return false;
    if (c.w.rank == 1)
        we_conv_widen(&c.w);
    for (int32_t i = 0; i < 2; i++) {
        int64_t positions = c.w.in[i];
        c.w.in[i] = c.w.out[i];
        c.w.out[i] = positions;
    }
    c.positions = c.w.out[0] * c.w.out[1];
    c.channels = x->dims[1] / c.group;
    c.filters = weights->dims[1];
    return c.w.in[0] * c.w.in[1] > 0 && accept_conv(&c, arena, out);
}

static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return STEPS * (double)(c->items * c->group) *
           (double)(c->positions * c->w.taps + c->w.in[0] * c->w.in[1]);
}

/* ---- Taps ---- */

/* Some channels of all images, or of one. */
typedef struct block {
    const we_conv *conv;
    const float *out; /* of the convolution: its gradient */
    const float *seen;
    float *given; /* gradient of the image */
    int64_t channel, count;
    float taps[MOST_TAPS][BLOCK];
} block;

/* to += a * b: vector code, as nothing overlaps. */
static void add_products(int64_t count, const float *restrict a, const float *restrict b,
                         float *restrict to) {
    for (int64_t i = 0; i < count; i++)
        to[i] += a[i] * b[i];
}

/* Give the image what a window's gradient counts for there. */
static void give_window(block *k, int64_t item, int64_t y, int64_t x) {
    const we_window *w = &k->conv->w;
    const float *slope = k->out + ((item * w->out[0] + y) * w->out[1] + x) * k->conv->group + k->channel;
    int64_t row, row_end, first, end;
    we_conv_inside(w, 0, y, &row, &row_end);
    we_conv_inside(w, 1, x, &first, &end);
    for (; row < row_end; row++) {
        int64_t in_y = item * w->in[0] + y * w->stride[0] - w->pad_begin[0] + row * w->dilation[0];
        int64_t left = in_y * w->in[1] + x * w->stride[1] - w->pad_begin[1];
        for (int64_t column = first; column < end; column++)
            add_products(k->count, slope, k->taps[row * w->kernel[1] + column],
                         k->given + (left + column * w->dilation[1]) * k->conv->group + k->channel);
    }
}

/* Add a * b of `count` places to each channel's sum. Those of sixteen channels stay in registers. */
static void sum_products(int64_t channels, int64_t count, const float *restrict a, int64_t a_step,
                         const float *restrict b, int64_t b_step, float *restrict to) {
    enum { LANES = 16 };
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        float sums[LANES];
        memcpy(sums, to + c, sizeof sums);
        for (int64_t i = 0; i < count; i++) {
            for (int64_t lane = 0; lane < LANES; lane++)
                sums[lane] += a[i * a_step + c + lane] * b[i * b_step + c + lane];
        }
        memcpy(to + c, sums, sizeof sums);
    }
    for (; c < channels; c++) {
        for (int64_t i = 0; i < count; i++)
            to[c] += a[i * a_step + c] * b[i * b_step + c];
    }
}

/* The outputs of a row for which a tap is inside the image: [*first, *end). */
static void outputs_inside(const we_window *w, int64_t column, int64_t *first, int64_t *end) {
    int64_t at = column * w->dilation[1] - w->pad_begin[1], last = w->in[1] - 1 - at;
    *first = at < 0 ? (w->stride[1] - 1 - at) / w->stride[1] : 0;
    *end = last < 0 ? 0 : last / w->stride[1] + 1;
    *end = *end < w->out[1] ? *end : w->out[1];
}

/* Sum what the taps saw of an image, for a row of outputs. */
static void sum_row(block *k, int64_t item, int64_t y) {
    const we_window *w = &k->conv->w;
    const int64_t all = k->conv->group;
    int64_t row, row_end, first, end;
    we_conv_inside(w, 0, y, &row, &row_end);
    for (; row < row_end; row++) {
        int64_t in_y = item * w->in[0] + y * w->stride[0] - w->pad_begin[0] + row * w->dilation[0];
        for (int64_t column = 0; column < w->kernel[1]; column++) {
            outputs_inside(w, column, &first, &end);
            int64_t out = (item * w->out[0] + y) * w->out[1] + first;
            int64_t in = in_y * w->in[1] + first * w->stride[1] - w->pad_begin[1] + column * w->dilation[1];
            if (first < end)
                sum_products(k->count, end - first, k->out + out * all + k->channel, all,
                             k->seen + in * all + k->channel, w->stride[1] * all,
                             k->taps[row * w->kernel[1] + column]);
        }
    }
}

/* ---- Running ---- */

typedef struct job {
    const we_run *run;
    const we_command *command;
    const we_conv *conv;
    int64_t each; /* channels of a block */
} job;

static job job_of(const we_run *run, const we_command *command) {
    const we_conv *c = &((const parameters *)command->u.claim.parameters)->conv;
    job j = {run, command, c, BLOCK};
    while (j.each > LEAST && c->items * (c->group / j.each) < 2 * we_pool_threads(run->pool))
        j.each /= 2;
    return j;
}

static int64_t blocks_of(const job *j) {
    return (j->conv->group + j->each - 1) / j->each;
}

static block block_at(const job *j, int64_t index) {
    block k = {.conv = j->conv, .channel = index * j->each};
    int64_t left = j->conv->group - k.channel;
    k.count = left < j->each ? left : j->each;
    return k;
}

/* Sums of an image by itself, [items][channels, taps], so that threads share nothing. */
static int64_t sums_floats(const we_conv *c) {
    return c->group * c->w.taps;
}

static size_t weights_scratch(const we_program *program, const we_command *command, int32_t threads) {
    const we_conv *c = &((const parameters *)command->u.claim.parameters)->conv;
    (void)program;
    (void)threads;
    return (size_t)(c->items * sums_floats(c)) * sizeof(float);
}

static void run_weight_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const int64_t taps = j->conv->w.taps;
    for (int64_t i = begin; i < end; i++) {
        int64_t item = i / blocks_of(j);
        block k = block_at(j, i % blocks_of(j));
        k.seen = we_run_in(j->run, j->command, 0);
        k.out = we_claim_in(j->run, j->command, 1);
        for (int64_t y = 0; y < j->conv->w.out[0]; y++)
            sum_row(&k, item, y);
        float *to = (float *)j->run->scratch + item * sums_floats(j->conv) + k.channel * taps;
        for (int64_t c = 0; c < k.count; c++) {
            for (int64_t tap = 0; tap < taps; tap++)
                to[c * taps + tap] = k.taps[tap][c];
        }
    }
}

static void run_weights(const we_run *run, const we_command *command) {
    job j = job_of(run, command);
    const int64_t sums = sums_floats(j.conv);
    const float *of_items = run->scratch;
    float *to = we_run_out(run, command);
    we_parallel_for(run->pool, j.conv->items * blocks_of(&j), 1, run_weight_blocks, &j);
    memcpy(to, of_items, (size_t)sums * sizeof *to);
    for (int64_t item = 1; item < j.conv->items; item++) {
        for (int64_t i = 0; i < sums; i++)
            to[i] += of_items[item * sums + i];
    }
}

static void run_image_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const int64_t taps = j->conv->w.taps, in = j->conv->w.in[0] * j->conv->w.in[1];
    const float *weights = we_claim_in(j->run, j->command, 1); /* [channels, taps] */
    for (int64_t i = begin; i < end; i++) {
        int64_t item = i / blocks_of(j);
        block k = block_at(j, i % blocks_of(j));
        k.out = we_run_in(j->run, j->command, 0);
        k.given = we_run_out(j->run, j->command);
        for (int64_t c = 0; c < k.count; c++) {
            for (int64_t tap = 0; tap < taps; tap++)
                k.taps[tap][c] = weights[(k.channel + c) * taps + tap];
        }
        for (int64_t p = item * in; p < (item + 1) * in; p++)
            memset(k.given + p * j->conv->group + k.channel, 0, (size_t)k.count * sizeof *k.given);
        for (int64_t p = 0; p < j->conv->positions; p++)
            give_window(&k, item, p / j->conv->w.out[1], p % j->conv->w.out[1]);
    }
}

static void run_image(const we_run *run, const we_command *command) {
    job j = job_of(run, command);
    we_parallel_for(run->pool, j.conv->items * blocks_of(&j), 1, run_image_blocks, &j);
}

const we_claim_methods we_claim_depthwise_filter_gradient = {
    .accept = accept_weights,
    .cost = cost,
    .run = run_weights,
    .scratch_size = weights_scratch,
    .reads = 1 << 1,
    .reads_last = 1 << 1,
    .channels_last = true,
};
const we_claim_methods we_claim_depthwise_image_gradient = {
    .accept = accept_image,
    .cost = cost,
    .run = run_image,
    .reads_varying = 1 << 1,
    .channels_last = true,
};
