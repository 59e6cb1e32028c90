/* The gradient of a pool by maximum: that of each output goes to the first of the places it saw that has the
 * largest. Image, output, gradient and result are channels last. Windows may overlap, so threads take images
 * or blocks of channels, which share nothing. */
#include <string.h>

#include "backend/cpu/conv.h"

enum {
    BLOCK = 64, /* channels at once: what is left of their gradients stays in the first-level cache */
    STEPS = 6,  /* to compare an element and add to it */
};

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv *p = we_arena_new(arena, sizeof *p);
    *out = p;
    return p && we_pool_read(call, p);
}

static double cost(const void *given) {
    const we_conv *c = given;
    return STEPS * (double)(c->items * c->group) *
           (double)(c->positions * (1 + c->w.taps) + c->w.in[0] * c->w.in[1]);
}

/* Give what is left of the gradients of `count` channels, as bits, to those that have the largest. NaN is the
 * largest. Masks and no branches, so that compilers make vector code of it (28 to 5 ms for 8 x 64 x 112 x
 * 112, 3 x 3 by 2, Zen 5). */
static void give(int64_t count, const float *restrict x, const float *restrict largest,
                 uint32_t *restrict left, float *restrict to) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t hit = -(uint32_t)((x[i] == largest[i]) | (x[i] != x[i])), bits = left[i] & hit;
        float given;
        memcpy(&given, &bits, sizeof given);
        to[i] += given;
        left[i] &= ~hit;
    }
}

typedef struct job {
    const we_conv *conv;
    const float *x, *largest, *gradient;
    float *to;
    int64_t blocks;
} job;

static void give_window(const job *j, int64_t item, int64_t y, int64_t x, int64_t channel, int64_t count) {
    const we_conv *c = j->conv;
    const we_window *w = &c->w;
    const int64_t at = ((item * w->out[0] + y) * w->out[1] + x) * c->group + channel;
    int64_t row, row_end, first, end;
    uint32_t left[BLOCK];
    memcpy(left, j->gradient + at, (size_t)count * sizeof *left);
    we_conv_inside(w, 0, y, &row, &row_end);
    we_conv_inside(w, 1, x, &first, &end);
    for (; row < row_end; row++) {
        for (int64_t column = first; column < end; column++) {
            int64_t in_y = y * w->stride[0] - w->pad_begin[0] + row * w->dilation[0];
            int64_t in_x = x * w->stride[1] - w->pad_begin[1] + column * w->dilation[1];
            int64_t from = ((item * w->in[0] + in_y) * w->in[1] + in_x) * c->group + channel;
            give(count, j->x + from, j->largest + at, left, j->to + from);
        }
    }
}

static void give_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_conv *c = j->conv;
    const we_window *w = &c->w;
    for (int64_t i = begin; i < end; i++) {
        int64_t item = i / j->blocks, channel = i % j->blocks * BLOCK, in = w->in[0] * w->in[1];
        int64_t count = c->group - channel < BLOCK ? c->group - channel : BLOCK;
        for (int64_t p = 0; p < in; p++)
            memset(j->to + (item * in + p) * c->group + channel, 0, (size_t)count * sizeof *j->to);
        for (int64_t p = 0; p < c->positions; p++)
            give_window(j, item, p / w->out[1], p % w->out[1], channel, count);
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const we_conv *c = command->u.claim.parameters;
    job j = {.conv = c,
             .x = we_run_in(run, command, 0),
             .largest = we_claim_in(run, command, 1),
             .gradient = we_claim_in(run, command, 2),
             .to = we_run_out(run, command),
             .blocks = (c->group + BLOCK - 1) / BLOCK};
    we_parallel_for(run->pool, c->items * j.blocks, 1, give_blocks, &j);
}

const we_claim_methods we_claim_max_pool_gradient = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .reads = 1 << 1 | 1 << 2,
    .reads_last = 1 << 1 | 1 << 2,
    .channels_last = true,
};
