/* GroupNormalization and InstanceNormalization group by group while it is in cache. */
#include "backend/cpu/cpu.h"

typedef struct parameters {
    int64_t rows, groups, channels; /* of all images, of one; channels of a group */
    we_norm how;                    /* but for scale and bias, which the run has */
} parameters;

static bool has_one_each(const we_tensor *x, int64_t channels) {
    return x->dtype == WE_F32 && x->count == channels;
}

/* Float32 throughout. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    if (x->dtype != WE_F32 || x->count == 0 || x->rank < 2)
        return false;
    int64_t channels = x->dims[1], groups = channels;
    if (call->node->op == WE_OP_GroupNormalization)
        groups = we_node_int(call->node, "num_groups", 1);
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || groups < 1 || channels % groups != 0 || !has_one_each(call->in[1], channels) ||
        !has_one_each(call->in[2], channels))
        return false;
    int64_t rows = x->dims[0] * groups;
    *p = (parameters){.rows = rows,
                      .groups = groups,
                      .channels = channels / groups,
                      .how = {.k = x->count / rows,
                              .plane = x->count / (x->dims[0] * channels),
                              .epsilon = (float)we_node_float(call->node, "epsilon", 1e-5),
                              .centred = true}};
    *out = p;
    return true;
}

/* Three passes over what is in cache. */
static double cost(const void *given) {
    const parameters *p = given;
    return 3.0 * (double)(p->rows * p->how.k) + 64.0 * (double)(p->rows * p->channels);
}

typedef struct job {
    const parameters *p;
    we_norm_kernel kernel;
    const float *x, *scale, *bias;
    float *y;
} job;

static void normalise(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    we_norm how = j->p->how;
    for (int64_t row = begin; row < end; row++) {
        how.scale = j->scale + row % j->p->groups * j->p->channels;
        how.bias = j->bias + row % j->p->groups * j->p->channels;
        j->kernel(&how, j->x + row * how.k, j->y + row * how.k);
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {.p = p,
             .kernel = run->kernels->norm,
             .x = we_run_in(run, command, 0),
             .scale = we_claim_in(run, command, 1),
             .bias = we_claim_in(run, command, 2),
             .y = we_run_out(run, command)};
    we_parallel_for(run->pool, p->rows, 1 + 32768 / p->how.k, normalise, &j);
}

const we_claim_methods we_claim_group_norm = {
    .accept = accept, .cost = cost, .run = run_claim, .reads = 1u << 1 | 1u << 2};
