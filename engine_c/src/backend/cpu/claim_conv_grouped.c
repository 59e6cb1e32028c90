/* Convolution of small groups that have as many filters as channels: too narrow for products. */
#include <math.h>

#include "backend/cpu/conv.h"
#include "base/error.h"

typedef struct parameters {
    we_conv conv;
    float *weights; /* [taps, channels of a group, filters of all], made at preparation */
} parameters;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_conv_read(call, &conv) || conv.group < 2 || conv.channels != conv.filters || conv.channels < 2 ||
        conv.channels > WE_GROUP_MOST || (conv.channels & (conv.channels - 1)) != 0)
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    p->conv = conv;
    *out = p;
    return true;
}

/* A quarter of a step per product, as the sums stay in registers; less where elements come from memory. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return (double)(c->items * c->group * c->filters * c->positions) *
           (1 + (double)(c->w.taps * c->channels) / (c->channels == WE_GROUP_MOST ? 6 : 4));
}

/* From [filters, channels, taps] to [taps, channels, filters]. */
static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    int64_t taps = p->conv.w.taps, size = p->conv.channels, filters = p->conv.group * p->conv.filters;
    we_region turned = {.rank = 3,
                        .size = {taps, size, filters},
                        .src = {.stride = {1, taps, taps * size}},
                        .dst = {.stride = {size * filters, filters, 1}}};
    p->weights = we_arena_new(&program->arena, (size_t)(taps * size * filters) * sizeof *p->weights);
    if (!p->weights)
        return we_error_no_memory(err);
    we_region_copy(&turned, sizeof(float), p->conv.weights, p->weights);
    return WE_OK;
}

static void visit(const we_run *run, const we_command *command, const we_conv_part *part) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    int64_t tap = c->channels * part->stretch.channels; /* floats of the weights */
    we_grouped g = {.stretch = part->stretch,
                    .w_row = c->w.kernel[1] * tap,
                    .weights = p->weights + (part->row * c->w.kernel[1] + part->column) * tap,
                    .bias = c->bias,
                    .low = command->u.claim.relu ? 0 : -INFINITY,
                    .high = command->u.claim.ceiling > 0 ? command->u.claim.ceiling : INFINITY,
                    .size = (int32_t)c->channels};
    if (command->in[1] >= 0)
        g.residual = (const float *)we_run_in(run, command, 1) + part->y;
    run->kernels->grouped(&g, (const float *)we_run_in(run, command, 0) + part->x,
                          we_conv_out(run, command, part->y));
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    we_conv_each_part(run, command, &p->conv, visit);
}

const we_claim_methods we_claim_conv_grouped = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .prepare = prepare,
    .fuses = true,
    .channels_last = true,
    .places = true,
};
