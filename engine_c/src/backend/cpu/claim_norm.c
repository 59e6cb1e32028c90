/* LayerNormalization and RMSNormalization row by row while the row is in cache. */
#include "backend/cpu/cpu.h"

typedef struct parameters {
    int64_t rows;
    we_norm how; /* but for scale and bias, which the run has */
} parameters;

/* One value per element of a row; the specification lets shapes broadcast, which the decomposition does. */
static bool fits(const we_tensor *x, int64_t k) {
    return !x || (x->dtype == WE_F32 && x->count == k);
}

/* Float32 throughout. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    int32_t axis = 0;
    if (x->dtype != WE_F32 || x->count == 0 ||
        we_call_axis(call, we_node_int(call->node, "axis", -1), x->rank, &axis) != WE_OK)
        return false;
    int64_t k = 1;
    for (int32_t i = axis; i < x->rank; i++)
        k *= x->dims[i];
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || !fits(call->in[1], k) || !fits(we_call_input(call, 2), k) || call->in[1]->rank > x->rank - axis)
        return false;
    *p = (parameters){.rows = x->count / k,
                      .how = {.k = k,
                              .plane = 1,
                              .epsilon = (float)we_node_float(call->node, "epsilon", 1e-5),
                              .centred = call->node->op == WE_OP_LayerNormalization}};
    *out = p;
    return true;
}

/* Three passes over what is in cache. */
static double cost(const void *given) {
    const parameters *p = given;
    return 3.0 * (double)(p->rows * p->how.k) + 64.0 * (double)p->rows;
}

typedef struct job {
    we_norm_kernel kernel;
    we_norm how;
    const float *x;
    float *y, *means, *inverses; /* the last two may be NULL */
} job;

static void normalise(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t row = begin; row < end; row++) {
        we_moments m = j->kernel(&j->how, j->x + row * j->how.k, j->y + row * j->how.k);
        if (j->means)
            j->means[row] = m.mean;
        if (j->inverses)
            j->inverses[row] = m.inverse;
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {.kernel = run->kernels->norm,
             .how = p->how,
             .x = we_run_in(run, command, 0),
             .y = we_run_out(run, command),
             .means = we_claim_out(run, command, 1),
             .inverses = we_claim_out(run, command, 2)};
    j.how.scale = we_claim_in(run, command, 1);
    j.how.bias = we_claim_in(run, command, 2);
    we_parallel_for(run->pool, p->rows, 1 + 32768 / p->how.k, normalise, &j);
}

const we_claim_methods we_claim_norm = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .reads = 1u << 1 | 1u << 2,
    .writes = 1u << 1 | 1u << 2,
};
