#include "search/search.h"

#include "base/dtype.h"

static const struct {
    double product, element, bytes; /* per nanosecond */
} RATES[] = {
#define WE_RATE_ROW(ISA, product, element, bytes) [WE_ISA_##ISA] = {product, element, bytes},
#include "search/rates.inc"
#undef WE_RATE_ROW
};

/* Steps per element and kind, in the unit of the element-wise rate. */
enum {
    STEPS_UNARY = 4, /* between a relu (1) and an exp (8) */
    STEPS_BINARY = 1,
    STEPS_SELECT = 4,
    STEPS_CAST = 4,
    STEPS_ARG = 8,
    STEPS_SORT = 512, /* some ten comparisons through a pointer */
    STEPS_RANDOM = 16,
    START_NS = 100, /* S of any command on the CPU: the call, its walk */
    STEP_NS = 5,    /* of a loop, to its next iteration */
};

static int best_isa(const we_machine *machine) {
    int best = WE_ISA_REF;
    for (int i = 0; i < WE_ISA_COUNT; i++)
        best = machine->isas >> i & 1 ? i : best;
    return best;
}

static double rounded_up(int64_t lines, int32_t width) {
    return (double)((lines + width - 1) / width * width);
}

/* Operations counting the padding of partial tiles, loads of both panels per tile
 * (source: the tiled product's traffic m*n*k*(1/rows + 1/columns)), and packing what is not constant. */
static double product_ns(const we_matmul *p, bool pack_a, bool pack_b, const we_matmul_row *kernel) {
    double batch = 1, k = (double)p->k, m = (double)p->m, n = (double)p->n;
    for (int32_t i = 0; i < p->batch_rank; i++)
        batch *= (double)p->batch[i];
    if (!kernel)
        return batch * (2 * m * n * k / RATES[WE_ISA_REF].product + 5);
    double padded_m = rounded_up(p->m, kernel->rows), padded_n = rounded_up(p->n, kernel->columns);
    double tiles = padded_m * padded_n;
    double compute = 2 * tiles * k / RATES[kernel->isa].product;
    /* 64 bytes loaded per ns from the first-level cache by 32-byte vectors, twice that by 64-byte ones. */
    double loads = 4 * tiles * k * (1.0 / kernel->rows + 1.0 / kernel->columns);
    double load_ns = loads / (RATES[kernel->isa].product * 1.5);
    double packing = 0;
    if (pack_a)
        packing += padded_m * k;
    if (pack_b)
        packing += padded_n * k;
    double calls = tiles / (kernel->rows * kernel->columns) * 10;
    return batch * ((compute > load_ns ? compute : load_ns) + calls + packing / 2);
}

/* Every iteration costs its body; a simple one starts without the call. */
static double loop_ms(const we_machine *machine, const we_program *program, const we_loop *loop) {
    double body = 0, each = we_loop_is_simple(program, loop) ? -START_NS * 1e-6 : 0;
    for (size_t i = 0; i < loop->body_count; i++)
        body += loop->body[i].predicted_ms + each;
    return (double)we_loop_iterations(loop) * (body + STEP_NS * 1e-6) /
               (loop->independent ? machine->threads : 1) +
           START_NS * 1e-6;
}

double we_cost_candidate(const we_machine *machine, const we_program *program, const we_command *command,
                         const we_candidate *candidate) {
    const we_tensor *out = &program->tensors[command->out];
    int isa = best_isa(machine);
    double count = (double)out->count, steps = 0, ns = 0;
    const we_claim_methods *claim = we_claim_of(command);
    switch (command->kind) {
    case WE_COMMAND_UNARY:
        steps = STEPS_UNARY * count;
        break;
    case WE_COMMAND_BINARY:
        steps = STEPS_BINARY * count;
        break;
    case WE_COMMAND_SELECT:
        steps = STEPS_SELECT * count;
        break;
    case WE_COMMAND_CAST:
        steps = STEPS_CAST * count;
        break;
    case WE_COMMAND_REDUCE:
        steps = (double)(command->u.reduce.outer * command->u.reduce.k * command->u.reduce.inner);
        break;
    case WE_COMMAND_ARG:
        steps = STEPS_ARG * count * (double)command->u.arg.k;
        break;
    case WE_COMMAND_TOP:
        steps = STEPS_SORT * (double)(command->u.top.outer * command->u.top.n * command->u.top.inner);
        break;
    case WE_COMMAND_RANDOM:
        steps = STEPS_RANDOM * count;
        break;
    case WE_COMMAND_MATMUL:
        ns = product_ns(&command->u.matmul, program->tensors[command->in[0]].kind != WE_TENSOR_CONST,
                        program->tensors[command->in[1]].kind != WE_TENSOR_CONST, candidate->kernel);
        break;
    case WE_COMMAND_LOOP:
        return loop_ms(machine, program, &command->u.loop);
    case WE_COMMAND_RASTER:
        for (size_t i = 0; i < command->u.raster.count; i++) {
            const we_region *r = &command->u.raster.regions[i];
            bool runs = r->rank == 0 || (r->src.stride[r->rank - 1] == 1 && r->dst.stride[r->rank - 1] == 1);
            double bytes = (double)we_region_count(r) * (double)we_dtype_size(out->dtype);
            ns += 20 + bytes / RATES[isa].bytes * (runs ? 1 : 4);
        }
        break;
    case WE_COMMAND_NATIVE:
        steps = command->u.native.steps * (double)command->u.native.items;
        break;
    case WE_COMMAND_CLAIM:
        steps = claim->cost(command->u.claim.parameters);
        if (claim->product)
            ns = product_ns(claim->product(command->u.claim.parameters), false, true, candidate->kernel);
        break;
    }
    return ((ns + steps / RATES[isa].element) / machine->threads + START_NS) * 1e-6;
}
