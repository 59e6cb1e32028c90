/* A kernel of a device loads a 16-bit float as float32, and rounds what it stores as one: so a cast before or
 * behind it is part of it. Results are the same to the bit.
 *
 *   - A command reads what was cast to float32 as it was before; a cast that nobody reads any more goes.
 *   - A command whose result is read by a cast to 16 bits alone writes that result.
 *   - Tensors that others are part of, or that are part of others, stay. */
#include "backend/backend.h"
#include "base/dtype.h"
#include "base/error.h"
#include "plan/plan.h"

typedef struct absorbing {
    we_program *program;
    int32_t *reads; /* per root */
    int32_t *maker; /* per tensor: the one command that writes it, or NONE or SEVERAL */
    bool *aliased;  /* per tensor: others are views of it */
} absorbing;

enum { NONE = -1, SEVERAL = -2 };

static bool is_half(const we_program *program, int32_t tensor) {
    we_dtype dtype = program->tensors[tensor].dtype;
    return dtype == WE_F16 || dtype == WE_BF16;
}

static bool is_cast(const we_program *program, const we_command *c, bool to_half) {
    return !c->removed && c->away && c->kind == WE_COMMAND_CAST &&
           program->tensors[to_half ? c->in[0] : c->out].dtype == WE_F32 &&
           is_half(program, to_half ? c->out : c->in[0]);
}

static bool is_alone(const absorbing *a, int32_t tensor) {
    const we_tensor *t = &a->program->tensors[tensor];
    return t->kind == WE_TENSOR_TEMP && t->alias_of < 0 && !a->aliased[tensor];
}

static int32_t *reads_of(const absorbing *a, int32_t tensor) {
    int64_t offset;
    return &a->reads[we_program_root(a->program, tensor, &offset)];
}

static we_narrow abilities(const we_command *c) {
    const we_claim_methods *claim = we_claim_of(c);
    return claim && claim->narrows ? claim->narrows(c) : (we_narrow){0};
}

/* Where the command names what it reads in any form, one after the other; NULL past the last. */
static int32_t *operand(we_command *c, int32_t i) {
    const we_narrow can = abilities(c);
    switch (c->kind) {
    case WE_COMMAND_CLAIM:
        return i < 2 && c->in[i] >= 0 && (i == 0 ? can.in : can.residual) ? &c->in[i] : NULL;
    case WE_COMMAND_MATMUL:
        return i < 2 && c->u.matmul.k > 0 ? &c->in[i] : NULL;
    case WE_COMMAND_UNARY:
        return i < 1 ? &c->in[i] : NULL;
    case WE_COMMAND_BINARY:
        return i < 2 ? &c->in[i] : NULL;
    default:
        return NULL;
    }
}

static bool writes_any_form(const we_command *c) {
    return c->kind == WE_COMMAND_UNARY || c->kind == WE_COMMAND_BINARY || c->kind == WE_COMMAND_CHAIN ||
           (c->kind == WE_COMMAND_MATMUL && c->u.matmul.k > 0) ||
           (c->kind == WE_COMMAND_CLAIM && abilities(c).out);
}

static void read_before_cast(const absorbing *a, int32_t *tensor) {
    int32_t maker = a->maker[*tensor];
    we_command *cast = maker >= 0 ? &a->program->commands[maker] : NULL;
    if (!cast || !is_cast(a->program, cast, false) || !is_alone(a, *tensor))
        return;
    if (--*reads_of(a, *tensor) == 0)
        cast->removed = true; /* its own reading becomes the command's */
    else
        ++*reads_of(a, cast->in[0]);
    *tensor = cast->in[0];
}

static void read_halves(const absorbing *a, we_command *c) {
    int32_t *at;
    for (int32_t i = 0; (at = operand(c, i)); i++)
        read_before_cast(a, at);
    for (int32_t i = 0; c->kind == WE_COMMAND_CHAIN && i < c->u.chain->operand_count; i++)
        read_before_cast(a, &c->u.chain->operands[i].tensor);
}

static void write_halves(const absorbing *a, we_command *cast) {
    int32_t wide = cast->in[0], maker = a->maker[wide];
    we_command *c = maker >= 0 ? &a->program->commands[maker] : NULL;
    if (!c || c->removed || !c->away || !writes_any_form(c) || !is_alone(a, wide) || *reads_of(a, wide) != 1)
        return;
    c->out = cast->out;
    a->maker[cast->out] = maker;
    cast->removed = true;
}

static void find_makers(const absorbing *a) {
    const we_program *program = a->program;
    for (size_t t = 0; t < program->tensor_count; t++)
        a->maker[t] = NONE;
    for (size_t t = 0; t < program->tensor_count; t++) {
        if (program->tensors[t].alias_of >= 0)
            a->aliased[program->tensors[t].alias_of] = true;
    }
    for (size_t c = 0; c < program->command_count; c++) {
        for (size_t i = 0; i < we_command_writes(&program->commands[c]); i++) {
            int32_t *maker = &a->maker[we_command_write(&program->commands[c], i)];
            *maker = *maker == NONE ? (int32_t)c : SEVERAL;
        }
    }
}

static void absorb(const absorbing *a) {
    we_program *program = a->program;
    find_makers(a);
    for (size_t c = 0; c < program->command_count; c++) {
        if (program->commands[c].away && !program->commands[c].removed)
            read_halves(a, &program->commands[c]);
    }
    for (size_t c = 0; c < program->command_count; c++) {
        if (is_cast(program, &program->commands[c], true))
            write_halves(a, &program->commands[c]);
    }
}

we_status we_plan_absorb(we_program *program, const bool *kept, we_error *err) {
    absorbing a = {.program = program,
                   .maker = we_memory_new(program->tensor_count * sizeof *a.maker),
                   .aliased = we_memory_new(program->tensor_count * sizeof *a.aliased)};
    we_status status =
        a.maker && a.aliased ? we_plan_count_reads(program, kept, &a.reads, err) : we_error_no_memory(err);
    if (status == WE_OK)
        absorb(&a);
    we_memory_free(a.reads);
    we_memory_free(a.maker);
    we_memory_free(a.aliased);
    return status;
}
