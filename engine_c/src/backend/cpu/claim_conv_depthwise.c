/* Convolution where every filter sees one channel: plane by plane, through a stored copy that stays in cache.
 */
#include "backend/cpu/conv.h"

typedef struct parameters {
    we_conv conv;
    const int32_t *offsets; /* per tap */
} parameters;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_conv_read(call, &conv) || conv.channels != 1)
        return false;
    we_conv_must_store(&conv);
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || !(p->offsets = we_conv_tap_offsets(&conv, arena)))
        return false;
    p->conv = conv;
    *out = p;
    return true;
}

/* An eighth of a step per tap, as the sums stay in registers, and the copy. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    double planes = (double)(c->items * c->group), outputs = (double)(c->filters * c->positions);
    return planes * (outputs * (1 + (double)c->w.taps / 8) + (double)c->plane);
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    (void)program;
    return we_conv_plane_floats(&((const parameters *)command->u.claim.parameters)->conv) * (size_t)threads *
           sizeof(float);
}

typedef struct job {
    const we_run *run;
    const we_command *command;
    const parameters *p;
} job;

static void filter_planes(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_conv *c = &j->p->conv;
    const float *x = we_run_in(j->run, j->command, 0);
    const float *residual = j->command->in[1] >= 0 ? we_run_in(j->run, j->command, 1) : NULL;
    float *stored = (float *)j->run->scratch + (size_t)we_run_worker(j->run) * we_conv_plane_floats(c);
    we_depthwise d = {.taps = we_conv_taps(c, j->p->offsets),
                      .relu = j->command->u.claim.relu,
                      .ceiling = j->command->u.claim.ceiling};
    for (int64_t plane = begin; plane < end; plane++) {
        we_conv_store(c, x + plane * c->w.in[0] * c->w.in[1], 0, stored);
        for (int64_t f = 0; f < c->filters; f++) {
            int64_t filter = plane % c->group * c->filters + f, to = (plane * c->filters + f) * c->positions;
            d.weights = c->weights + filter * c->w.taps;
            d.bias = c->bias ? c->bias[filter] : 0;
            d.residual = residual ? residual + to : NULL;
            j->run->kernels->depthwise(&d, stored, (float *)we_run_out(j->run, j->command) + to);
        }
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    job j = {run, command, command->u.claim.parameters};
    const we_conv *c = &j.p->conv;
    int64_t steps = c->plane + c->filters * c->positions * c->w.taps / 8;
    we_parallel_for(run->pool, c->items * c->group, 1 + 16384 / steps, filter_planes, &j);
}

const we_claim_methods we_claim_conv_depthwise = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .scratch_size = scratch_size,
    .fuses = true,
};
