/* Chains of element-wise functions: block after block, every step writes a buffer that the next ones find in
 * the first-level cache; the last one writes the output. */
#include "backend/cpu/cpu.h"
#include "base/dtype.h"

enum {
    BLOCK = 1024,       /* elements: six buffers and an operand or two fit the first-level cache */
    WORTH_STEPS = 8192, /* elements times steps worth handing to a thread: a few us */
};

typedef struct job {
    const we_run *run;
    const we_chain *chain;
    char *out;
    int64_t out_width, pieces; /* bytes of an element; blocks of a row */
} job;

typedef struct block {
    const job *j;
    int64_t row, column, count;
    float buffers[WE_CHAIN_BUFFERS][BLOCK];
} block;

/* Where a step finds an operand, and the step between its elements. */
static const char *operand(const block *b, int32_t in, int64_t *step) {
    const we_chain *chain = b->j->chain;
    *step = 1;
    if (in < 0)
        return (const char *)b->buffers[chain->steps[~in].buffer];
    const we_chain_operand *o = &chain->operands[in];
    int64_t width = (int64_t)we_dtype_size(b->j->run->program->tensors[o->tensor].dtype);
    *step = o->step;
    return (const char *)b->j->run->memory[o->tensor] + (b->row * o->row_step + b->column * o->step) * width;
}

static void run_step(block *b, const we_chain_step *step, void *to) {
    const we_kernels *kernels = b->j->run->kernels;
    const char *in[3];
    int64_t steps[3];
    for (int32_t i = 0; i < step->in_count; i++)
        in[i] = operand(b, step->in[i], &steps[i]);
    if (step->kind == WE_COMMAND_UNARY)
        kernels->unary[step->fn][WE_F32](b->count, in[0], to);
    else if (step->kind == WE_COMMAND_BINARY)
        kernels->binary[step->fn][WE_F32](b->count, in[0], steps[0], in[1], steps[1], to);
    else
        we_cpu_select(kernels, sizeof(float), b->count, in, steps, to);
}

static void run_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_chain *chain = j->chain;
    block b;
    b.j = j;
    for (int64_t i = begin; i < end; i++) {
        b.row = i / j->pieces;
        b.column = i % j->pieces * BLOCK;
        b.count = chain->columns - b.column < BLOCK ? chain->columns - b.column : BLOCK;
        for (int32_t s = 0; s < chain->step_count; s++) {
            bool last = s + 1 == chain->step_count;
            char *out = j->out + (b.row * chain->columns + b.column) * j->out_width;
            run_step(&b, &chain->steps[s], last ? (void *)out : b.buffers[chain->steps[s].buffer]);
        }
    }
}

void we_cpu_chain(const we_run *run, const we_command *command) {
    const we_chain *chain = command->u.chain;
    job j = {.run = run, .chain = chain, .out = we_run_out(run, command)};
    j.out_width = (int64_t)we_dtype_size(run->program->tensors[command->out].dtype);
    j.pieces = (chain->columns + BLOCK - 1) / BLOCK;
    int64_t each = chain->columns < BLOCK ? chain->columns : BLOCK;
    we_parallel_for(run->pool, chain->rows * j.pieces, 1 + WORTH_STEPS / (each * chain->step_count),
                    run_blocks, &j);
}
