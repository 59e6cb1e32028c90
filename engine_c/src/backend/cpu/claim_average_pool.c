/* Mean of each window: a depthwise filter whose weights are all one over the number of taps. Windows that
 * count the taps inside the image alone are left to the decomposition. */
#include <math.h>

#include "backend/cpu/conv.h"
#include "base/error.h"

typedef struct parameters {
    we_conv conv;
    const float *weights; /* [columns, channels], the same for every row; made at preparation */
} parameters;

static bool is_inside(const we_window *w, int32_t i) {
    return w->pad_begin[i] == 0 &&
           (w->out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] < w->in[i];
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_pool_read(call, &conv))
        return false;
    bool counts_padding =
        we_node_int(call->node, "count_include_pad", 0) != 0 && we_node_int(call->node, "ceil_mode", 0) == 0;
    if (!counts_padding && !(is_inside(&conv.w, 0) && is_inside(&conv.w, 1)))
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

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    int64_t count = p->conv.w.kernel[1] * p->conv.group;
    float *weights = we_arena_new(&program->arena, (size_t)count * sizeof *weights);
    if (!weights)
        return we_error_no_memory(err);
    for (int64_t i = 0; i < count; i++)
        weights[i] = 1 / (float)p->conv.w.taps;
    p->weights = weights;
    return WE_OK;
}

static void visit(const we_run *run, const we_command *command, const we_conv_part *part) {
    const parameters *p = command->u.claim.parameters;
    we_depthwise d = {.stretch = part->stretch, .weights = p->weights, .low = -INFINITY, .high = INFINITY};
    run->kernels->depthwise(&d, (const float *)we_run_in(run, command, 0) + part->x,
                            we_conv_out(run, command) + part->y);
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
