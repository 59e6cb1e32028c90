/* The product keeps its place in the program only if the other operand of a fused addition is there already;
 * so a bias must be a constant or a graph input. */
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "plan/plan.h"

we_status we_plan_count_reads(const we_program *program, const bool *kept, int32_t **out, we_error *err) {
    int64_t offset;
    int32_t *reads = we_memory_new(program->tensor_count * sizeof *reads);
    if (!reads)
        return we_error_no_memory(err);
    for (size_t t = 0; t < program->tensor_count; t++) {
        if (kept[t])
            reads[we_program_root(program, (int32_t)t, &offset)]++;
    }
    for (size_t c = 0; c < program->command_count; c++) {
        const we_command *command = &program->commands[c];
        for (size_t i = 0; !command->removed && i < we_command_reads(command); i++)
            reads[we_program_root(program, we_command_read(command, i), &offset)]++;
    }
    *out = reads;
    return WE_OK;
}

/* Does the operand walk like a row bias (constant over runs of n) or a column bias (repeating runs of n)? */
static we_bias_kind bias_of(const we_walk *walk, int32_t operand, const we_matmul *p, int64_t *period) {
    int64_t inner = 1, dense = 1;
    int32_t i = walk->rank - 1;
    for (; i >= 0 && walk->step[operand][i] == 0; i--)
        inner *= walk->size[i];
    for (; i >= 0 && walk->step[operand][i] == dense; i--)
        dense *= walk->size[i];
    for (; i >= 0; i--) {
        if (walk->step[operand][i] != 0)
            return WE_BIAS_NONE;
    }
    *period = dense;
    if (inner == 1 && dense == p->n)
        return WE_BIAS_COLUMN;
    if (inner == p->n && dense % p->m == 0)
        return WE_BIAS_ROW;
    return WE_BIAS_NONE;
}

static bool fuse_bias(const we_program *program, we_command *product, const we_command *addition,
                      int32_t operand) {
    we_matmul *p = &product->u.matmul;
    const we_walk *walk = &addition->u.binary.walk;
    int32_t other = addition->in[1 - operand];
    int64_t offset;
    int32_t root = we_program_root(program, other, &offset);
    if (p->bias != WE_BIAS_NONE || p->relu || program->tensors[root].kind == WE_TENSOR_TEMP ||
        !we_walk_in_order(walk, operand))
        return false;
    p->bias = bias_of(walk, 1 - operand, p, &p->period);
    if (p->bias == WE_BIAS_NONE)
        return false;
    product->in[2] = other;
    return true;
}

static bool is_number(const we_program *program, int32_t tensor, float *out) {
    const we_tensor *t = &program->tensors[tensor];
    if (t->kind != WE_TENSOR_CONST || t->dtype != WE_F32 || t->count != 1)
        return false;
    memcpy(out, t->data, sizeof *out);
    return true;
}

/* Is the tensor written, if at all, before that place of the program? */
static bool is_there(const we_program *program, int32_t tensor, const int32_t *writer, int32_t place) {
    int64_t offset;
    int32_t root = we_program_root(program, tensor, &offset);
    bool written =
        program->tensors[root].kind == WE_TENSOR_TEMP || program->tensors[root].kind == WE_TENSOR_VIEW;
    return !written || (writer[root] >= 0 && writer[root] < place);
}

/* A sum of the claim's bytes, in the place of `operand`, and others that are there before it runs. */
static bool fuse_byte_sum(we_program *program, we_command *claim, const we_command *next, int32_t operand,
                          const int32_t *writer) {
    const we_claim_methods *addition = we_claim_of(next);
    int32_t other = next->in[1 - operand];
    if (!addition || !addition->byte_sum || !we_claim_of(claim)->takes_byte_sum || claim->in[1] >= 0 ||
        !is_there(program, other, writer, (int32_t)(claim - program->commands)))
        return false;
    const we_byte_sum given = *addition->byte_sum(next->u.claim.parameters);
    we_byte_sum *sum = we_arena_copy(&program->arena, &given, sizeof given);
    if (!sum)
        return false;
    if (operand == 1) {
        sum->a_zero = given.b_zero, sum->a_factor = given.b_factor, sum->a_flip = given.b_flip;
        sum->b_zero = given.a_zero, sum->b_factor = given.a_factor, sum->b_flip = given.a_flip;
    }
    claim->in[1] = other;
    claim->u.claim.then = sum;
    return true;
}

/* An addition of a tensor of the same shape that is there before the claim runs, a relu, a clip from 0. */
static bool fuse_into_claim(const we_program *program, we_command *claim, const we_command *next,
                            int32_t operand, const int32_t *writer, int32_t place) {
    float bound;
    if (!we_claim_of(claim)->fuses || claim->u.claim.ceiling > 0)
        return false;
    if (claim->u.claim.relu) { /* only the upper half of a clip fits behind it */
        if (next->kind != WE_COMMAND_BINARY || next->u.binary.fn != WE_BINARY_Min ||
            !is_number(program, next->in[1 - operand], &bound) || !(bound > 0))
            return false;
        claim->u.claim.ceiling = bound;
        return true;
    }
    if (next->kind == WE_COMMAND_UNARY && next->u.unary == WE_UNARY_Relu)
        return claim->u.claim.relu = true;
    if (next->kind == WE_COMMAND_BINARY && next->u.binary.fn == WE_BINARY_Max)
        return claim->u.claim.relu = is_number(program, next->in[1 - operand], &bound) && bound == 0;
    if (next->kind != WE_COMMAND_BINARY || next->u.binary.fn != WE_BINARY_Add || claim->in[1] >= 0 ||
        !we_walk_in_order(&next->u.binary.walk, 0) || !we_walk_in_order(&next->u.binary.walk, 1))
        return false;
    if (!is_there(program, next->in[1 - operand], writer, place))
        return false;
    claim->in[1] = next->in[1 - operand];
    return true;
}

static bool fuse_into(we_program *program, we_command *product, const we_command *next, int32_t operand,
                      const int32_t *writer) {
    const we_tensor *out = &program->tensors[next->out];
    if (product->kind == WE_COMMAND_CLAIM && next->kind == WE_COMMAND_CLAIM)
        return out->count == program->tensors[product->out].count &&
               fuse_byte_sum(program, product, next, operand, writer);
    if (out->dtype != WE_F32 || out->count != program->tensors[product->out].count)
        return false;
    if (product->kind == WE_COMMAND_CLAIM)
        return fuse_into_claim(program, product, next, operand, writer,
                               (int32_t)(product - program->commands));
    if (next->kind == WE_COMMAND_BINARY && next->u.binary.fn == WE_BINARY_Add)
        return fuse_bias(program, product, next, operand);
    if (next->kind == WE_COMMAND_UNARY && next->u.unary == WE_UNARY_Relu && !product->u.matmul.relu)
        return product->u.matmul.relu = true;
    return false;
}

we_status we_plan_fuse(we_program *program, const bool *kept, we_error *err) {
    int32_t *reads = NULL;
    WE_TRY(we_plan_count_reads(program, kept, &reads, err));
    int32_t *writer = we_memory_new_dirty(program->tensor_count * sizeof *writer);
    if (!writer) {
        we_memory_free(reads);
        return we_error_no_memory(err);
    }
    memset(writer, -1, program->tensor_count * sizeof *writer);
    for (size_t c = 0; c < program->command_count; c++) {
        we_command *command = &program->commands[c];
        if (command->removed)
            continue;
        for (size_t i = 0; i < we_command_writes(command); i++)
            writer[we_command_write(command, i)] = (int32_t)c;
        for (int32_t i = 0; i < 2 && command->in[i] >= 0 && command->kind != WE_COMMAND_RASTER; i++) {
            int64_t offset;
            int32_t root = we_program_root(program, command->in[i], &offset);
            we_command *product = writer[root] >= 0 ? &program->commands[writer[root]] : NULL;
            if (!product || (product->kind != WE_COMMAND_MATMUL && product->kind != WE_COMMAND_CLAIM) ||
                reads[root] != 1 || offset != 0 ||
                program->tensors[command->in[i]].count != program->tensors[root].count ||
                !fuse_into(program, product, command, i, writer))
                continue;
            product->out = command->out;
            writer[command->out] = writer[root];
            command->removed = true;
            break;
        }
    }
    we_memory_free(writer);
    we_memory_free(reads);
    return WE_OK;
}
