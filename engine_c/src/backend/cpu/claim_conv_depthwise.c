/* Convolution where every channel has one filter of its own. */
#include <math.h>

#include "backend/cpu/conv.h"
#include "base/error.h"

typedef struct parameters {
    we_conv conv;
    float *weights; /* [taps, channels], made at preparation, or by a run where they vary */
} parameters;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_conv_read_varying(call, &conv) || conv.channels != 1 || conv.filters != 1)
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    p->conv = conv;
    *out = p;
    return true;
}

/* A quarter of a step per tap, as the sums stay in registers. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return (double)(c->items * c->group * c->positions) * (1 + (double)c->w.taps / 4);
}

static void turn_weights(const we_conv *c, const float *weights, float *to) {
    const we_conv_steps at = we_conv_weight_steps(c);
    we_region turned = {.rank = 2,
                        .size = {c->w.taps, c->group},
                        .src = {.offset = at.first, .stride = {at.tap, at.group}},
                        .dst = {.stride = {c->group, 1}}};
    we_region_copy(&turned, sizeof *to, weights, to);
}

static size_t weights_bytes(const we_conv *c) {
    return (size_t)(c->w.taps * c->group) * sizeof(float);
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    if (p->conv.weights_vary)
        return WE_OK;
    p->weights = we_arena_new(&program->arena, weights_bytes(&p->conv));
    if (!p->weights)
        return we_error_no_memory(err);
    turn_weights(&p->conv, p->conv.weights, p->weights);
    return WE_OK;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const we_conv *c = &((const parameters *)command->u.claim.parameters)->conv;
    (void)program;
    (void)threads;
    return c->weights_vary ? weights_bytes(c) : 0;
}

static void visit(const we_run *run, const we_command *command, const we_conv_part *part) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    we_depthwise d = {.stretch = part->stretch,
                      .w_row = c->w.kernel[1] * c->group,
                      .weights = p->weights + (part->row * c->w.kernel[1] + part->column) * c->group,
                      .bias = c->bias,
                      .low = command->u.claim.relu ? 0 : -INFINITY,
                      .high = command->u.claim.ceiling > 0 ? command->u.claim.ceiling : INFINITY};
    if (command->in[1] >= 0)
        d.residual = we_conv_at(run, command->in[1], part->y);
    run->kernels->depthwise[we_conv_dtype(run, command->out)](&d, we_conv_at(run, command->in[0], part->x),
                                                              we_conv_out(run, command, part->y));
}

/* With what varies in the place of what was prepared. */
static void run_claim(const we_run *run, const we_command *command) {
    parameters own = *(const parameters *)command->u.claim.parameters;
    we_command packed = *command;
    if (own.conv.weights_vary) {
        own.weights = run->scratch;
        turn_weights(&own.conv, we_claim_in(run, command, 1), own.weights);
    }
    if (own.conv.bias_varies)
        own.conv.bias = we_claim_in(run, command, 2);
    packed.u.claim.parameters = &own;
    we_conv_each_part(run, &packed, &own.conv, visit);
}

static we_narrow narrows(const we_command *command) {
    (void)command;
    return (we_narrow){.in = true, .residual = true, .out = true, .together = true};
}

const we_claim_methods we_claim_conv_depthwise = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .reads_varying = 1 << 1 | 1 << 2,
    .differentiable = true,
    .fuses = true,
    .channels_last = true,
    .places = true,
    .narrows = narrows,
};
