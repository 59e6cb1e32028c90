/* LayerNormalization and RMSNormalization, a group of work items a row. */
#include "backend/opencl/opencl.h"
#include "backend/opencl/rows.h"
#include "graph/opspec.h"

/* As norm_t of rows.cl. */
typedef struct norm {
    int32_t k;
    float epsilon;
    int32_t centred, biased, with_mean, with_inverse;
} norm;

typedef struct parameters {
    int64_t rows;
    norm how; /* but for what is there at all, which the command has */
} parameters;

/* One value per element of a row. */
static bool fits(const we_tensor *x, int64_t k) {
    return !x || (x->dtype == WE_F32 && x->count == k);
}

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
    if (!p || k > INT32_MAX || x->count / k > INT32_MAX || !fits(call->in[1], k) ||
        !fits(we_call_input(call, 2), k) || call->in[1]->rank > x->rank - axis)
        return false;
    *p = (parameters){.rows = x->count / k,
                      .how = {.k = (int32_t)k,
                              .epsilon = (float)we_node_float(call->node, "epsilon", 1e-5),
                              .centred = call->node->op == WE_OP_LayerNormalization}};
    *out = p;
    return true;
}

static we_work work(const void *given) {
    const parameters *p = given;
    double count = (double)p->rows * p->how.k;
    return (we_work){8 * count, 2 * count * sizeof(float), 1};
}

/* The tensor, or the result in the place of one that is absent, which the kernel then leaves alone. */
static void record_port(we_recorder *r, const we_command *c, int32_t tensor) {
    we_record_tensor(r, tensor >= 0 ? tensor : c->out);
}

static void record(we_recorder *r, const we_command *c) {
    const parameters *p = c->u.claim.parameters;
    const we_ports *ports = c->u.claim.ports;
    norm how = p->how;
    how.biased = ports->in[2] >= 0;
    how.with_mean = ports->out[1] >= 0;
    how.with_inverse = ports->out[2] >= 0;
    size_t group = we_opencl_row_kernel(r, how.k, "norm");
    we_record_bytes(r, &how, sizeof how);
    we_record_tensor(r, c->in[0]);
    record_port(r, c, ports->in[1]);
    record_port(r, c, ports->in[2]);
    we_record_tensor(r, c->out);
    record_port(r, c, ports->out[1]);
    record_port(r, c, ports->out[2]);
    we_record_items(r, p->rows * (int64_t)group, group);
}

const we_claim_methods we_claim_row_norm = {.accept = accept,
                                            .work = work,
                                            .record = record,
                                            .reads = 1u << 1 | 1u << 2,
                                            .writes = 1u << 1 | 1u << 2};
