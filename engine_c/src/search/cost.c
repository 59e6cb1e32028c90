#include "search/cost.h"

#include "backend/cpu/gemm.h"
#include "base/dtype.h"

/* Steps per element and kind, in the unit of the element-wise rate. */
enum {
    STEPS_UNARY = 4, /* between a relu (1) and an exp (8) */
    STEPS_BINARY = 1,
    STEPS_SELECT = 20,
    STEPS_CAST = 8,
    STEPS_ARG = 4,
    STEPS_SORT = 16, /* a key, a comparison, and what goes into the heap */
    STEPS_RANDOM = 100,
    SPLIT_CYCLES = 3,       /* of 32 elements, for every part */
    TILE_CYCLES = 40,       /* a call, its pointers, the latency of its last sums */
    NEAR_BYTES = 512 << 10, /* of a result that stay in the second-level cache */
    EXCHANGE_BYTES = 18,    /* per ns, which one core wrote and another reads (Zen 5) */
    PLAIN_STEPS = 3,        /* of the plain loop of a product, per ns */
    STEP_NS = 5,            /* of a loop, to its next iteration */
    REGION_NS = 20,         /* to start a region of a raster */
    RUN_NS = 2,             /* to start a run of one */
    PIECE_STEP_NS = 2,      /* of one that runs in pieces */
};

static int best_isa(const we_machine *machine) {
    int best = WE_ISA_REF;
    for (int i = 0; i < WE_ISA_COUNT; i++)
        best = machine->isas >> i & 1 ? i : best;
    return best;
}

/* Cycles of a tile per step of k: two multiply-adds a cycle, two loads a cycle, and the latency of a chain of
 * sums where there are few (see CHAINS in simd/matmul_tile.h). B comes from the second-level cache at half a
 * vector a cycle. */
static double tile_cycles(int64_t rows, int64_t vectors) {
    double sums = (double)(rows * vectors), chains = sums <= 2 ? 4 : sums <= 4 ? 2 : 1;
    double cycles = sums / 2;
    cycles = cycles < (double)(rows + vectors) / 2 ? (double)(rows + vectors) / 2 : cycles;
    cycles = cycles < 4 / chains ? 4 / chains : cycles;
    return cycles < (double)vectors * 2 ? (double)vectors * 2 : cycles;
}

/* The same of split operands, per word: tile registers take 16 cycles for a product of parts of 16 rows by 16
 * columns, plain C some three times as long as for a step of float32. */
static double split_cycles(const we_matmul_row *kernel, int64_t rows, int64_t vectors) {
    double products = kernel->parts * (kernel->parts + 1) / 2;
    if (kernel->isa == WE_ISA_AMX)
        return products * 16 * (double)((rows + 15) / 16 * vectors) / WE_PART_WORDS;
    if (kernel->isa == WE_ISA_NEONBF16) /* two rows by two words at once */
        return products * tile_cycles((rows + 1) / 2 * 2, vectors) / 2;
    return products * tile_cycles(rows, vectors) * (kernel->isa == WE_ISA_REF ? 3 : 1);
}

static double cycles_of(const we_matmul_row *kernel, int64_t rows, int64_t vectors) {
    return kernel->parts ? split_cycles(kernel, rows, vectors) : tile_cycles(rows, vectors);
}

/* Cycles of all tiles in a column of panels, per word along k; their rows are even (see multiply_block). */
static double panel_cycles(int64_t m, const we_matmul_row *kernel, int64_t vectors) {
    int64_t tiles = (m + kernel->rows - 1) / kernel->rows, each = m ? (m + tiles - 1) / tiles : 1;
    each = we_wants_even_rows(kernel) ? kernel->rows : each;
    double cycles = (double)(m / each) * cycles_of(kernel, each, vectors);
    return m % each ? cycles + cycles_of(kernel, m % each, vectors) : cycles;
}

/* Along k: elements, or pairs of them where operands are split. */
static double words_of(const we_matmul *p, const we_matmul_row *kernel) {
    return (double)(kernel->parts ? (p->k + 1) / 2 : p->k);
}

double we_cost_cycles(const we_matmul *p, const we_matmul_row *kernel) {
    int32_t lanes = we_isa_lanes(kernel->isa);
    int64_t whole = p->n / kernel->columns, rest = p->n % kernel->columns;
    int64_t tiles = (p->m + kernel->rows - 1) / kernel->rows * (whole + (rest > 0));
    double cycles = (double)whole * panel_cycles(p->m, kernel, kernel->columns / lanes);
    if (rest)
        cycles += panel_cycles(p->m, kernel, (rest + lanes - 1) / lanes);
    double split = (double)(p->m * p->k * kernel->parts) * (SPLIT_CYCLES / 32.0);
    return cycles * words_of(p, kernel) + (double)tiles * TILE_CYCLES + split;
}

static double greater(double a, double b) {
    return a > b ? a : b;
}

/* Work while bytes arrive: the longer of both, and a little of the other as they do not overlap in full. */
static double together(double a, double b) {
    return greater(a, b) + 0.1 * (a < b ? a : b);
}

/* Packed. */
static double bytes_of_b(const we_matmul *p, const we_matmul_row *kernel) {
    return (double)p->n * words_of(p, kernel) * 4 * (kernel->parts ? kernel->parts : 1);
}

/* How the rows of a product meet its B: `rows` at a time. ahead: what is multiplied next is brought near
 * meanwhile. packs: B is not constant. share: of the busiest thread; 0: all have the same. a_ns: for what
 * else each product of a batch waits, as for its A. */
typedef struct passes {
    int64_t rows;
    bool ahead, packs;
    double share, a_ns;
} passes;

/* One pass of B, whose bytes arrive at that rate, over some rows of A. */
static double pass_ns(const we_machine *machine, const we_matmul *p, int64_t m, double bytes_per_ns,
                      bool ahead, const we_matmul_row *kernel) {
    const we_matmul_row *rows;
    we_matmul part = *p;
    part.m = m;
    we_matmul_rows(&rows);
    double cycles = we_cost_cycles(&part, kernel) / machine->parameters->cycles[kernel - rows];
    double arrival = bytes_of_b(p, kernel) / bytes_per_ns;
    return ahead ? together(cycles, arrival) : cycles + arrival;
}

/* Bytes per ns from memory to each of the threads at work, which share what the memory gives. */
static double far_rate(const we_machine *machine) {
    const we_parameters *parameters = machine->parameters;
    double each = parameters->far_all / machine->threads;
    return each < parameters->far ? each : parameters->far;
}

/* Bytes per ns of a B that is used again: from the nearer of both where it is well below what that holds,
 * with what else a pass touches; from the farther where it is well above. */
static double later_rate(const we_machine *machine, double bytes) {
    const we_parameters *parameters = machine->parameters;
    double beyond = 2 * bytes / parameters->cache - 0.5, share = beyond < 0 ? 0 : beyond > 1 ? 1 : beyond;
    return 1 / ((1 - share) / parameters->near + share / far_rate(machine));
}

/* Passes of a constant B that was last used a run ago; or packing one that is not constant. What of C passes
 * the nearer caches is written to the last. */
static double product_ns(const we_machine *machine, const we_matmul *p, passes how,
                         const we_matmul_row *kernel) {
    const we_parameters *parameters = machine->parameters;
    double batch = 1, k = (double)p->k, m = (double)p->m, n = (double)p->n;
    for (int32_t i = 0; i < p->batch_rank; i++)
        batch *= (double)p->batch[i];
    if (!kernel)
        return batch * (2 * m * n * k / PLAIN_STEPS + 5);
    double share = batch > 1 ? 0.5 : 1; /* of the bandwidth: no next B arrives while one is multiplied */
    double first =
        share * (machine->weights > parameters->cache && !how.packs ? far_rate(machine) : parameters->near);
    double later = share * later_rate(machine, batch * bytes_of_b(p, kernel));
    int64_t left = p->m - (how.rows < p->m ? how.rows : p->m);
    double ns = pass_ns(machine, p, p->m - left, first, how.ahead, kernel);
    if (how.packs)
        ns += n * k * sizeof(float) /
              (p->b_column == 1 ? parameters->copy[best_isa(machine)] / 2 : parameters->turn) *
              (kernel->parts ? 1 + kernel->parts : 1);
    if (left >= how.rows)
        ns += (double)(left / how.rows) * pass_ns(machine, p, how.rows, later, how.ahead, kernel);
    if (left % how.rows)
        ns += pass_ns(machine, p, left % how.rows, later, how.ahead, kernel);
    ns = batch * (ns + how.a_ns) + greater(0, batch * m * n * 4 - NEAR_BYTES) / parameters->near;
    return how.share > 0 ? ns * how.share * machine->threads : ns;
}

/* As we_gemm cuts a product; k is taken for one run. NULL: B is not packed yet. */
static we_gemm_passes cut_of(const we_matmul *p, const we_matmul_row *kernel, const float *packed,
                             int32_t threads) {
    we_gemm gemm = {.kernel = kernel, .m = p->m, .n = p->n, .runs = 1, .depth = p->k, .packed = packed};
    return we_gemm_cut(&gemm, threads);
}

static int64_t batch_of(const we_matmul *p) {
    int64_t batch = 1;
    for (int32_t i = 0; i < p->batch_rank; i++)
        batch *= p->batch[i];
    return batch;
}

static bool is_plain(const we_matmul *p, const we_matmul_row *kernel) {
    return !kernel || p->m == 0 || p->n == 0 || p->k == 0;
}

static passes passes_of(const we_machine *machine, const we_matmul *p, const we_matmul_row *kernel) {
    if (is_plain(p, kernel))
        return (passes){.rows = 1, .ahead = true};
    float packed = 0;
    int64_t batch = batch_of(p), threads = machine->threads;
    bool by_items = batch >= 2 * threads;
    we_gemm_passes cut = cut_of(p, kernel, &packed, by_items ? 1 : machine->threads);
    double share = by_items ? (double)((batch + threads - 1) / threads) / (double)batch : cut.share;
    return (passes){.rows = cut.rows, .ahead = cut.rows >= p->m, .share = share};
}

/* Of a product whose B is not constant. A batch of enough items is shared out by items. A comes from where
 * weights lie if it is constant, and again for every unit of panels unless it stays near. */
static passes packing_passes(const we_machine *machine, const we_matmul *p, bool a_is_constant,
                             const we_matmul_row *kernel) {
    const we_parameters *parameters = machine->parameters;
    passes how = {.rows = INT64_MAX, .ahead = true, .packs = true};
    if (is_plain(p, kernel))
        return how;
    int64_t batch = batch_of(p), threads = machine->threads;
    bool by_items = batch >= threads;
    we_gemm_passes cut = cut_of(p, kernel, NULL, by_items ? 1 : machine->threads);
    how.share = by_items ? (double)((batch + threads - 1) / threads) / (double)batch : cut.share;
    double bytes = (double)(p->m * p->k) * sizeof(float);
    how.a_ns = bytes /
               (a_is_constant && machine->weights > parameters->cache ? far_rate(machine) : parameters->near);
    if (bytes > NEAR_BYTES)
        how.a_ns += (double)(cut.a_passes - 1) * bytes / parameters->near;
    return how;
}

static double matmul_ns(const we_machine *machine, const we_program *program, const we_command *command,
                        const we_matmul_row *kernel) {
    const we_matmul *product = &command->u.matmul;
    bool a_is_constant = program->tensors[command->in[0]].kind == WE_TENSOR_CONST;
    if (program->tensors[command->in[1]].kind == WE_TENSOR_CONST)
        return product_ns(machine, product, passes_of(machine, product, kernel), kernel);
    return product_ns(machine, product, packing_passes(machine, product, a_is_constant, kernel), kernel);
}

static double claim_product_ns(const we_machine *machine, const we_command *command,
                               const we_matmul_row *kernel) {
    const we_claim_methods *claim = we_claim_of(command);
    const void *parameters = command->u.claim.parameters;
    const we_matmul *product = claim->product(parameters);
    if (!claim->rows)
        return product_ns(machine, product, passes_of(machine, product, kernel), kernel);
    int64_t rows = claim->rows(parameters, machine->threads);
    passes how = {.rows = rows > 0 ? rows : 1, .ahead = true};
    if (machine->threads > 1 && rows >= product->m) { /* shared out step by step, each by another dim */
        double bytes = (double)(product->m * (product->k + product->n)) * sizeof(float);
        how.a_ns = bytes * (1 - 1.0 / machine->threads) / EXCHANGE_BYTES;
    }
    return product_ns(machine, product, how, kernel);
}

/* While weights last used a run ago arrive. */
static double byte_work_ns(const we_machine *machine, we_byte_work work) {
    const we_parameters *parameters = machine->parameters;
    double rate = machine->weights > parameters->cache ? far_rate(machine) : parameters->near;
    return together(work.products / parameters->bytes[best_isa(machine)], work.weights / rate);
}

/* Every iteration costs its body; a simple one starts without the call. */
static double loop_ms(const we_machine *machine, const we_program *program, const we_loop *loop,
                      bool pieces) {
    double body = 0, each = we_loop_is_simple(program, loop) ? -machine->parameters->start * 1e-6 : 0;
    for (size_t i = 0; i < loop->body_count; i++)
        body += loop->body[i].predicted_ms + each;
    return (double)we_loop_iterations(loop) * (body + (pieces ? PIECE_STEP_NS : STEP_NS) * 1e-6) /
               (loop->independent ? machine->threads : 1) +
           machine->parameters->start * 1e-6;
}

/* Threads share what is worth waking them for. */
static double shared(const we_machine *machine, double ns) {
    double by_all = ns / machine->threads + machine->parameters->fork;
    return machine->threads > 1 && by_all < ns ? by_all : ns;
}

/* Starting each region, too. */
static double raster_ns(const we_machine *machine, const we_program *program, const we_command *command) {
    double copy = machine->parameters->copy[best_isa(machine)], ns = 0;
    double element = (double)we_dtype_size(program->tensors[command->out].dtype);
    for (size_t i = 0; i < command->u.raster.count; i++) {
        const we_region *r = &command->u.raster.regions[i];
        bool runs = r->rank == 0 || (r->src.stride[r->rank - 1] == 1 && r->dst.stride[r->rank - 1] == 1);
        double count = (double)we_region_count(r);
        ns += REGION_NS + count * element / (runs ? copy : machine->parameters->turn);
        if (runs && r->rank > 0)
            ns += RUN_NS * count / (double)r->size[r->rank - 1];
    }
    return ns;
}

double we_cost_turning(const we_machine *machine, double bytes) {
    return shared(machine, REGION_NS + bytes / machine->parameters->turn) + machine->parameters->start;
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
        ns = matmul_ns(machine, program, command, candidate->kernel);
        break;
    case WE_COMMAND_LOOP:
        return loop_ms(machine, program, &command->u.loop, candidate->pieces);
    case WE_COMMAND_RASTER:
        ns = raster_ns(machine, program, command);
        break;
    case WE_COMMAND_NATIVE:
        steps = command->u.native.steps * (double)command->u.native.items;
        break;
    case WE_COMMAND_CHAIN: /* half of what the steps would take one by one, each from memory to memory */
        for (int32_t i = 0; i < command->u.chain->step_count; i++)
            steps += count / 2 *
                     (command->u.chain->steps[i].kind == WE_COMMAND_UNARY ? STEPS_UNARY : STEPS_BINARY);
        break;
    case WE_COMMAND_CLAIM:
        steps = claim->cost(command->u.claim.parameters);
        if (claim->product)
            ns = claim_product_ns(machine, command, candidate->kernel);
        if (claim->byte_work)
            ns = byte_work_ns(machine, claim->byte_work(command->u.claim.parameters));
        break;
    }
    return (shared(machine, ns + steps / machine->parameters->element[isa]) + machine->parameters->start) *
           1e-6;
}
