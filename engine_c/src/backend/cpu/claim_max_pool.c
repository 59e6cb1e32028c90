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
    run->kernels->window_max[we_conv_dtype(run, command->out)](
        &part->stretch, we_conv_at(run, command->in[0], part->x), we_conv_out(run, command, part->y));
}

static void run_claim(const we_run *run, const we_command *command) {
    we_conv_each_part(run, command, command->u.claim.parameters, visit);
}

/* The largest of rounded numbers is the largest, rounded. */
static we_narrow narrows(const we_command *command) {
    (void)command;
    return (we_narrow){.in = true, .out = true, .together = true};
}

const we_claim_methods we_claim_max_pool = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .differentiable = true,
    .channels_last = true,
    .places = true,
    .narrows = narrows,
};
