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
    if (!we_window_read(call, NULL, &c) || call->in[1]->count == 0)
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

static void visit_tap(block *k, int64_t out, int64_t in, int64_t tap) {
    const float *slope = k->out + out * k->conv->group + k->channel;
    const int64_t at = in * k->conv->group + k->channel;
    if (k->given)
        add_products(k->count, slope, k->taps[tap], k->given + at);
    else
        add_products(k->count, slope, k->seen + at, k->taps[tap]);
}

static void visit_window(block *k, int64_t item, int64_t y, int64_t x) {
    const we_window *w = &k->conv->w;
    int64_t row, row_end, first, end;
    we_conv_inside(w, 0, y, &row, &row_end);
    we_conv_inside(w, 1, x, &first, &end);
    for (; row < row_end; row++) {
        int64_t in_y = item * w->in[0] + y * w->stride[0] - w->pad_begin[0] + row * w->dilation[0];
        int64_t left = in_y * w->in[1] + x * w->stride[1] - w->pad_begin[1];
        for (int64_t column = first; column < end; column++)
            visit_tap(k, (item * w->out[0] + y) * w->out[1] + x, left + column * w->dilation[1],
                      row * w->kernel[1] + column);
    }
}

static void visit_item(block *k, int64_t item) {
    for (int64_t p = 0; p < k->conv->positions; p++)
        visit_window(k, item, p / k->conv->w.out[1], p % k->conv->w.out[1]);
}

/* ---- Running ---- */

typedef struct job {
    const we_run *run;
    const we_command *command;
    const we_conv *conv;
    int64_t each; /* channels of a block */
} job;

static job job_of(const we_run *run, const we_command *command, int64_t items) {
    const we_conv *c = &((const parameters *)command->u.claim.parameters)->conv;
    job j = {run, command, c, BLOCK};
    while (j.each > LEAST && items * (c->group / j.each) < 2 * we_pool_threads(run->pool))
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

static void run_weight_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const int64_t taps = j->conv->w.taps;
    float *to = we_run_out(j->run, j->command); /* [channels, taps] */
    for (int64_t i = begin; i < end; i++) {
        block k = block_at(j, i);
        k.seen = we_run_in(j->run, j->command, 0);
        k.out = we_claim_in(j->run, j->command, 1);
        for (int64_t item = 0; item < j->conv->items; item++)
            visit_item(&k, item);
        for (int64_t c = 0; c < k.count; c++) {
            for (int64_t tap = 0; tap < taps; tap++)
                to[(k.channel + c) * taps + tap] = k.taps[tap][c];
        }
    }
}

static void run_weights(const we_run *run, const we_command *command) {
    job j = job_of(run, command, 1);
    we_parallel_for(run->pool, blocks_of(&j), 1, run_weight_blocks, &j);
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
        visit_item(&k, item);
    }
}

static void run_image(const we_run *run, const we_command *command) {
    const we_conv *c = &((const parameters *)command->u.claim.parameters)->conv;
    job j = job_of(run, command, c->items);
    we_parallel_for(run->pool, c->items * blocks_of(&j), 1, run_image_blocks, &j);
}

const we_claim_methods we_claim_depthwise_filter_gradient = {
    .accept = accept_weights,
    .cost = cost,
    .run = run_weights,
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
