#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/opencl/formulas.h"
#include "backend/opencl/opencl.h"
#include "base/dtype.h"

enum {
    LONG_LINE = 32,     /* elements of a result worth a group of their own, where they lie together */
    FEW_RESULTS = 4096, /* below which a group works on each, wherever its elements lie */
};

static void record_reading(we_recorder *r, int32_t in, int32_t out) {
    we_record_tensor(r, in);
    we_record_tensor(r, out);
}

void we_opencl_reduce(we_recorder *r, const we_command *c) {
    we_dtype dtype = r->program->tensors[c->out].dtype;
    int64_t count = c->u.reduce.outer * c->u.reduce.inner, k = c->u.reduce.k;
    bool group = k >= LONG_LINE && (c->u.reduce.inner == 1 || count < FEW_RESULTS);
    char options[WE_OPENCL_OPTIONS];
    size_t size = we_opencl_group(r), used;
    we_opencl_options(r, dtype, options);
    used = strlen(options);
    /* Compilers take a macro's text up to a space, so formulas go without. */
    used += (size_t)snprintf(options + used, sizeof options - used, " -DGROUP=%zu -DSTART=%s -DSTEP=", size,
                             we_formula_reduce_start(c->u.reduce.fn));
    for (const char *f = we_formula_reduce(c->u.reduce.fn); *f && used + 1 < sizeof options; f++) {
        if (*f != ' ')
            options[used++] = *f;
    }
    options[used] = 0;
    we_record_kernel(r, we_cl_reduce, options, group ? "reduce_group" : "reduce_items");
    we_record_long(r, count);
    we_record_long(r, k);
    we_record_long(r, c->u.reduce.inner);
    record_reading(r, c->in[0], c->out);
    we_record_items(r, group ? count * (int64_t)size : count, size);
}

static void extreme_options(we_recorder *r, int32_t tensor, bool largest, bool last,
                            char options[WE_OPENCL_OPTIONS]) {
    we_opencl_options(r, r->program->tensors[tensor].dtype, options);
    size_t used = strlen(options);
    snprintf(options + used, WE_OPENCL_OPTIONS - used, " -DGROUP=1 -DLARGEST=%d -DLAST=%d", largest, last);
}

void we_opencl_arg(we_recorder *r, const we_command *c) {
    char options[WE_OPENCL_OPTIONS];
    int64_t count = c->u.arg.outer * c->u.arg.inner;
    extreme_options(r, c->in[0], c->u.arg.largest, c->u.arg.last, options);
    we_record_kernel(r, we_cl_reduce, options, "arg");
    we_record_long(r, count);
    we_record_long(r, c->u.arg.k);
    we_record_long(r, c->u.arg.inner);
    record_reading(r, c->in[0], c->out);
    we_record_items(r, count, we_opencl_group(r));
}

void we_opencl_top(we_recorder *r, const we_command *c) {
    char options[WE_OPENCL_OPTIONS];
    int64_t count = c->u.top.outer * c->u.top.n * c->u.top.inner;
    extreme_options(r, c->in[0], c->u.top.largest, false, options);
    we_record_kernel(r, we_cl_reduce, options, "top");
    we_record_long(r, count);
    we_record_long(r, c->u.top.n);
    we_record_long(r, c->u.top.inner);
    we_record_long(r, c->u.top.k);
    record_reading(r, c->in[0], c->out);
    we_record_items(r, count, we_opencl_group(r));
}

void we_opencl_random(we_recorder *r, const we_command *c) {
    char options[WE_OPENCL_OPTIONS];
    int64_t count = r->program->tensors[c->out].count;
    we_opencl_options(r, WE_F32, options);
    we_record_kernel(r, we_cl_reduce, options, "random");
    we_record_long(r, count);
    we_record_long(r, (int64_t)we_cpu_random_seed(c));
    we_record_int(r, c->u.random.normal);
    we_record_tensor(r, c->out);
    we_record_items(r, count, we_opencl_group(r));
}
