/* Convolution where every channel has one filter of its own, over images whose planes lie behind one another.
 */
#include <math.h>

#include "backend/cpu/planes.h"

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    we_planes *p = we_arena_new(arena, sizeof *p);
    *out = p;
    return p && we_conv_read(call, &conv) && conv.channels == 1 && conv.filters == 1 &&
           we_planes_of(&conv, conv.weights, p);
}

/* Is it one of those that the kernel knows at compile time? */
static bool is_usual(const we_plane *p) {
    int64_t columns = p->taps[1], step = p->step[1];
    return p->dilation[1] == 1 &&
           (((columns == 3 || columns == 5) && step <= 2) || (columns == 7 && step == 1));
}

/* Every row of the plane is put into the scratch, elements by their remainder where windows step; every
 * output sees all taps. Rows cost something by themselves. Measured on Zen 5, 2026-11-26. */
static double cost(const void *given) {
    const we_planes *p = given;
    const we_plane *plane = &p->plane;
    double taps = (double)(plane->taps[0] * plane->taps[1]), each = plane->step[1] == 1 ? 0.5 : 1;
    return (double)(p->items * p->channels) *
           ((double)plane->in[0] * (60 + each * (double)plane->in[1]) +
            (double)plane->out[0] * (100 + (double)plane->out[1] * taps / (is_usual(plane) ? 3 : 1.5)));
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    (void)program;
    return we_planes_scratch(command->u.claim.parameters, threads);
}

static void run_claim(const we_run *run, const we_command *command) {
    we_planes p = *(const we_planes *)command->u.claim.parameters;
    p.plane.low = command->u.claim.relu ? 0 : -INFINITY;
    p.plane.high = command->u.claim.ceiling > 0 ? command->u.claim.ceiling : INFINITY;
    const float *residual = command->in[1] >= 0 ? we_run_in(run, command, 1) : NULL;
    we_planes_run(run, &p, run->kernels->plane_filter, we_run_in(run, command, 0), residual,
                  we_run_out(run, command));
}

const we_claim_methods we_claim_conv_planes = {
    .accept = accept, .cost = cost, .run = run_claim, .scratch_size = scratch_size, .fuses = true};
