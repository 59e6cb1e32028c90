/* Largest of each window, plane by plane, through a stored copy that stays in cache. */
#include <math.h>

#include "backend/cpu/conv.h"

typedef struct parameters {
    we_conv conv; /* only its window and sizes */
    int64_t planes;
    const int32_t *offsets; /* per tap */
} parameters;

/* Float32 over one or two spatial dims, the values alone. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    we_conv conv = {0};
    if (call->node->output_count > 1 || x->dtype != WE_F32 || x->rank > 4 || x->count == 0 ||
        we_call_window(call, NULL, &conv.w) != WE_OK)
        return false;
    we_conv_size(&conv);
    we_conv_must_store(&conv);
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || conv.positions <= 0 || conv.plane > INT32_MAX / 2 ||
        !(p->offsets = we_conv_tap_offsets(&conv, arena)))
        return false;
    p->conv = conv;
    p->planes = x->dims[0] * x->dims[1];
    *out = p;
    return true;
}

/* An eighth of a step per tap, as the maximum stays in registers, and the copy. */
static double cost(const void *given) {
    const parameters *p = given;
    return (double)p->planes *
           ((double)p->conv.positions * (1 + (double)p->conv.w.taps / 8) + (double)p->conv.plane);
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

static void reduce_planes(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_conv *c = &j->p->conv;
    const float *x = we_run_in(j->run, j->command, 0);
    float *y = we_run_out(j->run, j->command);
    float *stored = (float *)j->run->scratch + (size_t)we_run_worker(j->run) * we_conv_plane_floats(c);
    we_taps taps = we_conv_taps(c, j->p->offsets);
    for (int64_t plane = begin; plane < end; plane++) {
        we_conv_store(c, x + plane * c->w.in[0] * c->w.in[1], -INFINITY, stored);
        j->run->kernels->window_max(&taps, stored, y + plane * c->positions);
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    job j = {run, command, command->u.claim.parameters};
    const we_conv *c = &j.p->conv;
    we_parallel_for(run->pool, j.p->planes, 1 + 16384 / (c->plane + c->positions * c->w.taps / 8),
                    reduce_planes, &j);
}

const we_claim_methods we_claim_max_pool = {
    .accept = accept, .cost = cost, .run = run_claim, .scratch_size = scratch_size};
