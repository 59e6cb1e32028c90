#include "backend/opencl/opencl.h"

#include <stdio.h>

#include "base/dtype.h"
#include "base/error.h"

enum {
    MOST_SORTED = 1 << 15, /* elements of a line that counting puts in order: beyond, a heap wins by far */
};

/* ---- Options ---- */

size_t we_opencl_group(const we_recorder *r) {
    return r->device->group < WE_OPENCL_GROUP ? r->device->group : WE_OPENCL_GROUP;
}

void we_opencl_options(const we_recorder *r, we_dtype type, char options[WE_OPENCL_OPTIONS]) {
    static const char *const EXTREMES[WE_DTYPE_COUNT] = {
        [WE_F32] = "-INFINITY -DHIGHEST=INFINITY", [WE_F64] = "-INFINITY -DHIGHEST=INFINITY",
        [WE_I32] = "INT_MIN -DHIGHEST=INT_MAX",    [WE_I64] = "LONG_MIN -DHIGHEST=LONG_MAX",
        [WE_U64] = "0 -DHIGHEST=ULONG_MAX",
    };
    const we_opencl_device *d = r->device;
    const char *name = we_opencl_type(type);
    snprintf(options, WE_OPENCL_OPTIONS, "-w %s%s%s-DTYPE=%s -DSIGNED=%d -DFLOATING=%d -DLOWEST=%s",
             d->type & WE_CL_TYPE_CPU ? "" : "-DGPU ", d->f64 ? "-DHAVE_F64 " : "",
             d->exact_division ? "-cl-fp32-correctly-rounded-divide-sqrt " : "",
             type == WE_F16 || type == WE_BF16 || !name ? "float" : name, we_dtype_kind(type) != 'u',
             we_dtype_kind(type) == 'f', EXTREMES[type] ? EXTREMES[type] : "0 -DHIGHEST=0");
}

/* ---- Which commands ---- */

static bool has_type(const we_opencl_device *d, we_dtype dtype) {
    return we_opencl_type(dtype) && (dtype != WE_F64 || d->f64);
}

/* Of the operands and the result alike. */
static bool has_types(const we_opencl_device *d, const we_program *program, const we_command *c) {
    bool all = has_type(d, program->tensors[c->out].dtype);
    for (int32_t i = 0; i < 3 && c->in[i] >= 0 && all; i++)
        all = has_type(d, program->tensors[c->in[i]].dtype);
    return all;
}

static bool has_loads(const we_opencl_device *d, const we_program *program, const we_loop *loop) {
    for (size_t v = 0; v < loop->view_count; v++) {
        int32_t index = loop->views[v].index.tensor;
        if (index >= 0 && !has_type(d, program->tensors[index].dtype))
            return false;
    }
    return we_opencl_takes_loop(d, program, loop);
}

bool we_opencl_takes(const we_opencl_device *d, const we_program *program, const we_command *c) {
    const we_claim_methods *claim = we_claim_of(c);
    switch (c->kind) {
    case WE_COMMAND_UNARY:
    case WE_COMMAND_BINARY:
    case WE_COMMAND_REDUCE:
    case WE_COMMAND_ARG:
        return has_types(d, program, c);
    case WE_COMMAND_SELECT:
    case WE_COMMAND_RASTER: /* by width */
        return program->tensors[c->out].dtype != WE_STRING;
    case WE_COMMAND_CHAIN:
        return true;
    case WE_COMMAND_CAST:
        return we_opencl_casts(d, program->tensors[c->in[0]].dtype, program->tensors[c->out].dtype);
    case WE_COMMAND_TOP:
        return has_types(d, program, c) && c->u.top.n <= MOST_SORTED;
    case WE_COMMAND_RANDOM:
        return c->u.random.seeded && c->in[0] < 0; /* a tape plays the same numbers each time */
    case WE_COMMAND_MATMUL:
        return has_types(d, program, c) && we_opencl_takes_matmul(&c->u.matmul);
    case WE_COMMAND_LOOP:
        return has_loads(d, program, &c->u.loop);
    case WE_COMMAND_CLAIM:
        return claim->record != NULL;
    case WE_COMMAND_NATIVE:
        return false;
    }
    return false;
}

/* ---- Recording ---- */

void we_opencl_record(we_recorder *r, const we_command *c) {
    if (r->status != WE_OK || (c->kind != WE_COMMAND_LOOP && r->program->tensors[c->out].count == 0))
        return;
    switch (c->kind) {
    case WE_COMMAND_UNARY:
    case WE_COMMAND_BINARY:
    case WE_COMMAND_SELECT:
    case WE_COMMAND_CAST:
    case WE_COMMAND_CHAIN:
        we_opencl_elementwise(r, c);
        return;
    case WE_COMMAND_REDUCE:
        we_opencl_reduce(r, c);
        return;
    case WE_COMMAND_ARG:
        we_opencl_arg(r, c);
        return;
    case WE_COMMAND_TOP:
        we_opencl_top(r, c);
        return;
    case WE_COMMAND_RANDOM:
        we_opencl_random(r, c);
        return;
    case WE_COMMAND_MATMUL:
        we_opencl_matmul(r, c);
        return;
    case WE_COMMAND_LOOP:
        we_opencl_loop(r, c);
        return;
    case WE_COMMAND_RASTER:
        we_opencl_raster(r, c);
        return;
    case WE_COMMAND_CLAIM:
        we_claim_of(c)->record(r, c);
        return;
    case WE_COMMAND_NATIVE:
        break;
    }
    we_record_fail(r, we_error_set(r->err, WE_INTERNAL, "the device has no command %d", (int)c->kind));
}
