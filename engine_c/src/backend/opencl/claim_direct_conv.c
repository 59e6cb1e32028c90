/* Convolutions whose groups have few channels, as depthwise ones: a product would be too narrow for its
 * tiles. */
#include <stdio.h>
#include <string.h>

#include "backend/opencl/window.h"
#include "base/dtype.h"

enum {
    FEW = 16, /* channels times filters of a group */
};

typedef struct parameters {
    we_conv conv;
    we_opencl_window window;
} parameters;

/* As after_t of window.cl. */
typedef struct after {
    float ceiling;
    int32_t bias, relu, residual;
} after;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || !we_conv_read(call, &p->conv))
        return false;
    *out = p;
    return p->conv.channels * p->conv.filters <= FEW && we_opencl_window_of(&p->conv, &p->window);
}

static we_work work(const void *given) {
    const parameters *p = given;
    double products = (double)p->window.count * (double)(p->conv.channels * p->conv.w.taps);
    return (we_work){4 * products, we_opencl_window_bytes(&p->conv), 1};
}

static void record(we_recorder *r, const we_command *c) {
    const parameters *p = c->u.claim.parameters;
    const we_conv *conv = &p->conv;
    int64_t filters = conv->group * conv->filters;
    const we_tensor *tensors = r->program->tensors;
    we_dtype form;
    char options[WE_OPENCL_OPTIONS];
    after f = {c->u.claim.ceiling, conv->bias != NULL, c->u.claim.relu, c->in[1] >= 0};
    we_spot in = we_record_spot_of(r, c->in[0]);
    we_opencl_options(r, WE_F32, options);
    we_spot weights = we_record_weights(r, conv->weights, filters * conv->channels * conv->w.taps, &form);
    size_t used = strlen(options);
    snprintf(options + used, sizeof options - used, " -DPOOL=0 -DX_IS=%s -DW_IS=%s -DR_IS=%s -DQ_IS=%s",
             we_dtype_name(tensors[c->in[0]].dtype), we_dtype_name(form),
             we_dtype_name(tensors[f.residual ? c->in[1] : c->out].dtype),
             we_dtype_name(tensors[c->out].dtype));
    we_record_kernel(r, we_cl_window, options, "direct_conv");
    we_record_bytes(r, &p->window, sizeof p->window);
    we_record_bytes(r, &f, sizeof f);
    we_record_spot(r, in);
    we_record_spot(r, weights);
    we_record_spot(r, f.bias ? we_record_constant(r, conv->bias, (size_t)filters * sizeof(float)) : in);
    we_record_spot(r, f.residual ? we_record_spot_of(r, c->in[1]) : in);
    we_record_tensor(r, c->out);
    we_record_items(r, p->window.count, we_opencl_group(r));
}

const we_claim_methods we_claim_direct_conv = {
    .accept = accept, .work = work, .record = record, .narrows = we_opencl_narrows, .fuses = true};
