/* Mean of each window: a depthwise filter whose weights are all one over the number of taps. Windows that
 * count the taps inside the image alone are left to the decomposition. */
#include <math.h>

#include "backend/cpu/conv.h"
#include "base/error.h"

typedef struct parameters {
    we_conv conv;
    bool counts_padding;
    const float *ones; /* [columns, channels], the same for every row; made at preparation */
} parameters;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    bool counts_padding;
    if (!we_pool_read_mean(call, &conv, &counts_padding))
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    p->conv = conv;
    p->counts_padding = counts_padding;
    *out = p;
    return true;
}

/* A quarter of a step per tap, as the sums stay in registers. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return (double)(c->items * c->group * c->positions) * (1 + (double)c->w.taps / 4);
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    int64_t count = p->conv.w.kernel[1] * p->conv.group;
    float *ones = we_arena_new(&program->arena, (size_t)count * sizeof *ones);
    if (!ones)
        return we_error_no_memory(err);
    for (int64_t i = 0; i < count; i++)
        ones[i] = 1;
    p->ones = ones;
    return WE_OK;
}

static void visit(const we_run *run, const we_command *command, const we_conv_part *part) {
    const parameters *p = command->u.claim.parameters;
    const we_stretch *s = &part->stretch;
    int64_t inside = s->rows * s->columns;
    float share = 1 / (float)(p->counts_padding ? p->conv.w.taps : inside > 0 ? inside : 1);
    float *y = we_conv_out(run, command, part->y);
    we_depthwise d = {.stretch = *s, .weights = p->ones, .low = -INFINITY, .high = INFINITY};
    run->kernels->depthwise[WE_F32](&d, (const float *)we_run_in(run, command, 0) + part->x, y);
    for (int64_t i = 0; i < s->count; i++, y += s->y_step)
        run->kernels->binary[WE_BINARY_Mul][WE_F32](s->channels, y, 1, &share, 0, y);
}

static void run_claim(const we_run *run, const we_command *command) {
    we_conv_each_part(run, command, &((const parameters *)command->u.claim.parameters)->conv, visit);
}

const we_claim_methods we_claim_average_pool = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .prepare = prepare,
    .channels_last = true,
    .places = true,
};
