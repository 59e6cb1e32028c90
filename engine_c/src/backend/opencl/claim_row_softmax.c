/* Softmax over what lies together, a group of work items a row. */
#include <stdio.h>
#include <string.h>

#include "backend/opencl/opencl.h"
#include "backend/opencl/rows.h"

typedef struct parameters {
    int64_t rows, k;
} parameters;

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
    *out = p;
    for (int32_t i = axis + 1; i < x->rank; i++) {
        if (x->dims[i] != 1)
            return false;
    }
    return p->k < INT32_MAX && p->rows < INT32_MAX;
}

static we_work work(const void *given) {
    const parameters *p = given;
    double count = (double)(p->rows * p->k);
    return (we_work){16 * count, 4 * count * sizeof(float), 1};
}

static void record(we_recorder *r, const we_command *c) {
    const parameters *p = c->u.claim.parameters;
    size_t group = we_opencl_row_kernel(r, p->k, "softmax");
    we_record_int(r, p->k);
    we_record_tensor(r, c->in[0]);
    we_record_tensor(r, c->out);
    we_record_items(r, p->rows * (int64_t)group, group);
}

const we_claim_methods we_claim_row_softmax = {.accept = accept, .work = work, .record = record};
