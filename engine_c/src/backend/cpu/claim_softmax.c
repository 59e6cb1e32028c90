/* Softmax row by row while the row is in cache: three passes over k elements instead of five over the tensor.
 */
#include "backend/cpu/cpu.h"

typedef struct parameters {
    int64_t rows, k;
} parameters;

/* Float32 over the innermost axis. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    int64_t axis = we_node_int(call->node, "axis", -1);
    if (x->dtype != WE_F32 || x->rank == 0 || x->count == 0 || (axis != -1 && axis != x->rank - 1))
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    p->k = x->dims[x->rank - 1];
    p->rows = x->count / p->k;
    *out = p;
    return true;
}

static double cost(const void *given) {
    const parameters *p = given;
    return 10.0 *
           (double)(p->rows * p->k); /* as many steps as the decomposition, without its trips to memory */
}

typedef struct job {
    const we_kernels *kernels;
    const float *x;
    float *y;
    int64_t k;
} job;

static void rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_kernels *kernels = j->kernels;
    for (int64_t row = begin; row < end; row++) {
        const float *x = j->x + row * j->k;
        float *y = j->y + row * j->k, most, sum;
        kernels->reduce[WE_REDUCE_Max][WE_F32](j->k, 1, x, &most);
        kernels->binary[WE_BINARY_Sub][WE_F32](j->k, x, 1, &most, 0, y);
        kernels->unary[WE_UNARY_Exp][WE_F32](j->k, y, y);
        kernels->reduce[WE_REDUCE_Sum][WE_F32](j->k, 1, y, &sum);
        kernels->binary[WE_BINARY_Div][WE_F32](j->k, y, 1, &sum, 0, y);
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {run->kernels, we_run_in(run, command, 0), we_run_out(run, command), p->k};
    we_parallel_for(run->pool, p->rows, 1 + 16384 / p->k, rows, &j);
}

const we_claim_methods we_claim_softmax = {.accept = accept, .cost = cost, .run = run_claim};
