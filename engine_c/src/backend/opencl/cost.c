/* What commands cost on a device: the longer of their arithmetic and their traffic, and starting them. */
#include <math.h>

#include "backend/opencl/product.h"
#include "base/dtype.h"

enum {
    FORMULA_PRODUCTS = 8, /* multiply-adds that a middling formula is worth */
    SCATTERED = 4,        /* how much slower elements move that do not lie together */
};

static double bytes_of(const we_program *program, const we_command *c) {
    double bytes = 0;
    size_t reads = we_command_reads(c);
    for (size_t i = 0; i < reads + we_command_writes(c); i++) {
        const we_tensor *t =
            &program->tensors[i < reads ? we_command_read(c, i) : we_command_write(c, i - reads)];
        bytes += (double)t->count * (double)we_dtype_size(t->dtype);
    }
    return bytes;
}

static double raster_bytes(const we_program *program, const we_command *c) {
    double width = (double)we_dtype_size(program->tensors[c->out].dtype), bytes = 0;
    for (size_t i = 0; i < c->u.raster.count; i++)
        bytes += (double)we_region_count(&c->u.raster.regions[i]) * width * SCATTERED;
    return bytes;
}

static double matmul_ns(const we_opencl_device *d, const we_opencl_parameters *believed,
                        const we_program *program, const we_command *c) {
    we_opencl_product product = {.p = c->u.matmul};
    double traffic = bytes_of(program, c) / believed->bandwidth;
    return fmax(traffic, c->u.matmul.k > 0 ? we_opencl_cut_of(d, believed, &product).ns : 0) +
           believed->launch;
}

static double loop_ns(const we_opencl_device *d, const we_opencl_parameters *believed,
                      const we_program *program, const we_command *c) {
    const we_loop *loop = &c->u.loop;
    double body = 0;
    if (we_loop_is_simple(program, loop) && loop->independent) {
        const we_tensor *out = &program->tensors[loop->body[0].out]; /* of an iteration */
        double moved =
            (double)we_loop_iterations(loop) * (double)out->count * (double)we_dtype_size(out->dtype);
        return believed->launch + 2 * moved * SCATTERED / believed->bandwidth;
    }
    for (size_t i = 0; i < loop->body_count; i++)
        body += we_opencl_cost_ns(d, believed, program, &loop->body[i]);
    return body * (double)we_loop_iterations(loop);
}

double we_opencl_cost_ns(const we_opencl_device *d, const we_opencl_parameters *believed,
                         const we_program *program, const we_command *c) {
    const we_claim_methods *claim = we_claim_of(c);
    double count = (double)program->tensors[c->out].count;
    we_work work = {.products = FORMULA_PRODUCTS * count, .launches = 1};
    switch (c->kind) {
    case WE_COMMAND_MATMUL:
        return matmul_ns(d, believed, program, c);
    case WE_COMMAND_LOOP:
        return loop_ns(d, believed, program, c);
    case WE_COMMAND_RASTER:
        work.bytes = raster_bytes(program, c);
        break;
    case WE_COMMAND_TOP:
        work.products = (double)(c->u.top.outer * c->u.top.n * c->u.top.inner) * (double)c->u.top.n;
        break;
    case WE_COMMAND_CLAIM:
        work = claim->work(c->u.claim.parameters);
        break;
    default:
        work.bytes = bytes_of(program, c);
    }
    return fmax(work.products / believed->products, work.bytes / believed->bandwidth) +
           work.launches * believed->launch;
}
