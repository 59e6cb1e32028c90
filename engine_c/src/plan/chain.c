/* Chains are found from their ends: a command takes in the producers of what it reads, and theirs, as long as
 * every reader of a result is in the chain. The chain runs where its last command stood; what its other
 * commands read from outside is still there then, since nothing is written twice. */
#include <string.h>

#include "base/error.h"
#include "plan/plan.h"

enum {
    REACH = 64, /* commands that are looked back at */
};

typedef struct group {
    const we_program *program;
    const int32_t *reads; /* per root */
    size_t members[WE_CHAIN_STEPS];
    int32_t count;         /* of members, the last command first */
    int64_t rows, columns; /* columns 0: any will do */
} group;

static int32_t operand_count(const we_command *c) {
    return c->kind == WE_COMMAND_UNARY ? 1 : c->kind == WE_COMMAND_BINARY ? 2 : 3;
}

/* NULL: the only operand is read in order. */
static const we_walk *walk_of(const we_command *c) {
    return c->kind == WE_COMMAND_UNARY    ? NULL
           : c->kind == WE_COMMAND_BINARY ? &c->u.binary.walk
                                          : &c->u.select;
}

/* The engine's element-wise kernels have more types; chains do without. */
static bool is_element_wise(const we_program *program, const we_command *c) {
    const we_tensor *tensors = program->tensors;
    if (c->removed || tensors[c->out].count == 0)
        return false;
    switch (c->kind) {
    case WE_COMMAND_UNARY:
    case WE_COMMAND_BINARY:
        return tensors[c->in[0]].dtype == WE_F32;
    case WE_COMMAND_SELECT:
        return tensors[c->out].dtype == WE_F32 && tensors[c->in[0]].dtype == WE_BOOL;
    default:
        return false;
    }
}

/* One step from element to element through all dims: 1 in order, 0 for a scalar. */
static bool has_one_step(const we_walk *walk, int32_t operand, int64_t *step) {
    int64_t dense = 1;
    *step = !walk ? 1 : walk->rank ? walk->step[operand][walk->rank - 1] : 0;
    for (int32_t i = walk ? walk->rank : 0; i-- > 0; dense *= walk->size[i]) {
        if (walk->step[operand][i] != *step * dense)
            return false;
    }
    return true;
}

/* Can the chain's rows and columns express how the command reads? */
static bool takes_shape(group *g, const we_command *c) {
    const we_walk *walk = walk_of(c);
    for (int32_t i = 0; i < operand_count(c); i++) {
        int64_t step;
        if (has_one_step(walk, i, &step))
            continue;
        if (walk->rank != 2 || (g->columns && (g->rows != walk->size[0] || g->columns != walk->size[1])))
            return false;
        g->rows = walk->size[0];
        g->columns = walk->size[1];
    }
    return true;
}

static bool reads_in_order(const we_program *program, const we_command *c, int32_t i, int32_t root) {
    int64_t offset;
    const we_walk *walk = walk_of(c);
    return we_program_root(program, c->in[i], &offset) == root && offset == 0 &&
           (!walk || we_walk_in_order(walk, i));
}

/* Is the command's result read by members alone, and in order? */
static bool is_inside(const group *g, const we_command *c) {
    const we_program *program = g->program;
    int32_t found = 0;
    if (program->tensors[c->out].alias_of >= 0 || program->tensors[c->out].kind != WE_TENSOR_TEMP)
        return false;
    for (int32_t m = 0; m < g->count; m++) {
        const we_command *reader = &program->commands[g->members[m]];
        for (int32_t i = 0; i < operand_count(reader); i++)
            found += reads_in_order(program, reader, i, c->out);
    }
    return found > 0 && found == g->reads[c->out];
}

static void gather(group *g, size_t last) {
    const we_program *program = g->program;
    int64_t count = program->tensors[program->commands[last].out].count;
    g->members[0] = last;
    g->count = takes_shape(g, &program->commands[last]) ? 1 : 0;
    for (size_t c = last; g->count && c-- > 0 && last - c <= REACH && g->count < WE_CHAIN_STEPS;) {
        const we_command *command = &program->commands[c];
        group wider = *g;
        if (!is_element_wise(program, command) || program->tensors[command->out].count != count ||
            !is_inside(g, command) || !takes_shape(&wider, command))
            continue;
        *g = wider;
        g->members[g->count++] = c;
    }
}

/* ---- Writing a chain down ---- */

/* The step that makes a tensor, or -1 for one from outside. */
static int32_t step_of(const group *g, int32_t tensor) {
    int64_t offset;
    int32_t root = we_program_root(g->program, tensor, &offset);
    for (int32_t m = 1; m < g->count; m++) {
        if (g->program->commands[g->members[m]].out == root)
            return g->count - 1 - m;
    }
    return -1;
}

/* The number of an operand; -1 where there is no room. */
static int32_t operand_of(we_chain *chain, int32_t tensor, const we_walk *walk, int32_t i) {
    int64_t step;
    we_chain_operand operand = {.tensor = tensor};
    if (has_one_step(walk, i, &step))
        operand.step = step, operand.row_step = step * chain->columns;
    else
        operand.row_step = walk->step[i][0], operand.step = walk->step[i][1];
    for (int32_t n = 0; n < chain->operand_count; n++) {
        const we_chain_operand *known = &chain->operands[n];
        if (known->tensor == tensor && known->step == operand.step && known->row_step == operand.row_step)
            return n;
    }
    if (chain->operand_count == WE_CHAIN_OPERANDS)
        return -1;
    chain->operands[chain->operand_count] = operand;
    return chain->operand_count++;
}

static bool write_step(const group *g, const we_command *c, we_chain *chain) {
    we_chain_step *step = &chain->steps[chain->step_count++];
    *step = (we_chain_step){.kind = c->kind, .in_count = operand_count(c)};
    step->fn = c->kind == WE_COMMAND_UNARY    ? (int32_t)c->u.unary
               : c->kind == WE_COMMAND_BINARY ? (int32_t)c->u.binary.fn
                                              : 0;
    for (int32_t i = 0; i < step->in_count; i++) {
        int32_t earlier = step_of(g, c->in[i]);
        step->in[i] = earlier >= 0 ? ~earlier : operand_of(chain, c->in[i], walk_of(c), i);
        if (earlier < 0 && step->in[i] < 0)
            return false;
    }
    return true;
}

/* A buffer for each result, free again after its last reader; false where they do not suffice. */
static bool assign_buffers(we_chain *chain) {
    int32_t last[WE_CHAIN_STEPS] = {0}, holder[WE_CHAIN_BUFFERS];
    memset(holder, -1, sizeof holder);
    for (int32_t s = 0; s < chain->step_count; s++) {
        for (int32_t i = 0; i < chain->steps[s].in_count; i++) {
            if (chain->steps[s].in[i] < 0)
                last[~chain->steps[s].in[i]] = s;
        }
    }
    for (int32_t s = 0; s < chain->step_count; s++) {
        int32_t b = 0;
        while (b < WE_CHAIN_BUFFERS && holder[b] >= 0 && last[holder[b]] >= s)
            b++;
        if (b == WE_CHAIN_BUFFERS)
            return false;
        holder[b] = s;
        chain->steps[s].buffer = b;
    }
    return true;
}

/* An operand that may be written over: read in order, and its memory by no other way. */
static int32_t expendable(const we_program *program, const we_chain *chain) {
    int64_t offset;
    for (int32_t n = 0; n < chain->operand_count; n++) {
        const we_chain_operand *operand = &chain->operands[n];
        int32_t root = we_program_root(program, operand->tensor, &offset), users = 0;
        for (int32_t m = 0; m < chain->operand_count; m++)
            users += we_program_root(program, chain->operands[m].tensor, &offset) == root;
        if (operand->step == 1 && operand->row_step == chain->columns && users == 1 &&
            program->tensors[operand->tensor].kind != WE_TENSOR_CONST)
            return operand->tensor;
    }
    return -1;
}

/* Put the chain in the place of its last command, unless it is too wide. */
static we_status replace(we_program *program, const group *g, we_error *err) {
    we_command *last = &program->commands[g->members[0]];
    we_chain *chain = we_arena_new(&program->arena, sizeof *chain);
    if (!chain)
        return we_error_no_memory(err);
    chain->rows = g->columns ? g->rows : 1;
    chain->columns = g->columns ? g->columns : program->tensors[last->out].count;
    for (int32_t m = g->count; m-- > 0;) {
        if (!write_step(g, &program->commands[g->members[m]], chain))
            return WE_OK;
    }
    if (!assign_buffers(chain))
        return WE_OK;
    for (int32_t m = 1; m < g->count; m++)
        program->commands[g->members[m]].removed = true;
    last->kind = WE_COMMAND_CHAIN;
    last->in[0] = expendable(program, chain);
    last->in[1] = last->in[2] = -1;
    last->u.chain = chain;
    return WE_OK;
}

we_status we_plan_chain(we_program *program, const bool *kept, we_error *err) {
    int32_t *reads = NULL;
    we_status status = we_plan_count_reads(program, kept, &reads, err);
    for (size_t c = program->command_count; status == WE_OK && c-- > 0;) {
        group g = {.program = program, .reads = reads};
        if (!is_element_wise(program, &program->commands[c]))
            continue;
        gather(&g, c);
        if (g.count > 1)
            status = replace(program, &g, err);
    }
    we_memory_free(reads);
    return status;
}
