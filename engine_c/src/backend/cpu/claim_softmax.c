/* Softmax row by row while the row is in cache. */
#include "backend/cpu/cpu.h"

typedef struct parameters {
    int64_t rows, k;
} parameters;

/* Float32 over an axis whose elements lie together. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    int32_t axis = 0;
    if (x->dtype != WE_F32 || x->count == 0 ||
        we_call_axis(call, we_node_int(call->node, "axis", -1), x->rank, &axis) != WE_OK)
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    p->k = x->dims[axis];
    p->rows = x->count / p->k;
    for (int32_t i = axis + 1; i < x->rank; i++) {
        if (x->dims[i] != 1)
            return false;
    }
    *out = p;
    return true;
}

/* An exp and three passes over what is in cache. */
static double cost(const void *given) {
    const parameters *p = given;
    return 6.0 * (double)(p->rows * p->k) + 64.0 * (double)p->rows;
}

typedef struct job {
    we_softmax_kernel kernel;
    we_softmax how;
    const float *x;
    float *y;
} job;

static void soften(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t row = begin; row < end; row++)
        j->kernel(&j->how, j->x + row * j->how.k, j->y + row * j->how.k);
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {run->kernels->softmax,
             {.k = p->k, .factor = 1},
             we_run_in(run, command, 0),
             we_run_out(run, command)};
    we_parallel_for(run->pool, p->rows, 1 + 16384 / p->k, soften, &j);
}

const we_claim_methods we_claim_softmax = {.accept = accept, .cost = cost, .run = run_claim};
