/* Largest of each window. */
#include "backend/cpu/conv.h"

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_pool_read(call, &conv))
        return false;
    we_conv *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    *p = conv;
    *out = p;
    return true;
}

/* Some steps per tap: one row of outputs after the other, taps of one read anew for the next. */
static double cost(const void *given) {
    const we_conv *c = given;
    return (double)(c->items * c->group * c->positions) * (4 + (double)c->w.taps);
}

static void visit(const we_run *run, const we_command *command, const we_conv_part *part) {
    const float *x = we_run_in(run, command, 0);
    run->kernels->window_max(&part->stretch, x + part->x, we_conv_out(run, command) + part->y);
}

static void run_claim(const we_run *run, const we_command *command) {
    we_conv_each_part(run, command, command->u.claim.parameters, visit);
}

const we_claim_methods we_claim_max_pool = {
    .accept = accept, .cost = cost, .run = run_claim, .channels_last = true, .places = true};
