/* Largest or mean of each window. */
#include <stdio.h>
#include <string.h>

#include "backend/opencl/window.h"
#include "base/dtype.h"
#include "graph/opspec.h"

typedef struct parameters {
    we_conv conv;
    we_opencl_window window;
    bool average, counts_padding;
} parameters;

/* Whether windows that pass the end of the padding count as they should, is the decomposition's affair. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || !we_pool_read(call, &p->conv))
        return false;
    p->average = call->node->op == WE_OP_AveragePool;
    p->counts_padding = we_node_int(call->node, "count_include_pad", 0) != 0;
    *out = p;
    return we_opencl_window_of(&p->conv, &p->window) &&
           !(p->average && p->counts_padding && we_node_int(call->node, "ceil_mode", 0) != 0);
}

static we_work work(const void *given) {
    const parameters *p = given;
    return (we_work){(double)p->window.count * (double)p->conv.w.taps, we_opencl_window_bytes(&p->conv), 1};
}

static void record(we_recorder *r, const we_command *c) {
    const parameters *p = c->u.claim.parameters;
    const we_tensor *tensors = r->program->tensors;
    char options[WE_OPENCL_OPTIONS];
    we_opencl_options(r, WE_F32, options);
    size_t used = strlen(options);
    snprintf(options + used, sizeof options - used,
             " -DPOOL=1 -DAVERAGE=%d -DCOUNT_PADDING=%d -DX_IS=%s -DQ_IS=%s", p->average, p->counts_padding,
             we_dtype_name(tensors[c->in[0]].dtype), we_dtype_name(tensors[c->out].dtype));
    we_record_kernel(r, we_cl_window, options, "pool");
    we_record_bytes(r, &p->window, sizeof p->window);
    we_record_tensor(r, c->in[0]);
    we_record_tensor(r, c->out);
    we_record_items(r, p->window.count, we_opencl_group(r));
}

/* The largest of rounded elements is one of them; a mean is no product. */
static we_narrow narrows(const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    return (we_narrow){.in = !p->average, .out = !p->average, .together = !p->average};
}

const we_claim_methods we_claim_window_pool = {
    .accept = accept, .work = work, .record = record, .narrows = narrows};
