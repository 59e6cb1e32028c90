/* Where products round what they read, what lies between them need not be kept in full: it is stored as
 * bfloat16, which halves what is moved, and saves rounding it once for every tap and pass.
 *
 *   - A tensor becomes narrow where everything that writes and reads it can have it so.
 *   - Nothing but that changes: sums, and what is computed otherwise, stay float32.
 *   - Inputs, outputs and constants of the program stay what they are. */
#include "backend/backend.h"
#include "base/error.h"
#include "plan/plan.h"

typedef struct narrowing {
    const we_program *program;
    bool *may; /* per root */
    bool cpu_can, changed;
} narrowing;

static bool *flag_of(const narrowing *n, int32_t tensor) {
    int64_t offset;
    return tensor < 0 ? NULL : &n->may[we_program_root(n->program, tensor, &offset)];
}

static void forbid(narrowing *n, int32_t tensor) {
    bool *may = flag_of(n, tensor);
    n->changed = n->changed || (may && *may);
    if (may)
        *may = false;
}

static bool is_possible(const narrowing *n, int32_t tensor) {
    const bool *may = flag_of(n, tensor);
    return !may || *may;
}

/* All of them or none. */
static void tie(narrowing *n, const int32_t *tensors, size_t count) {
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all = all && is_possible(n, tensors[i]);
    for (size_t i = 0; i < count && !all; i++)
        forbid(n, tensors[i]);
}

static void visit_claim(narrowing *n, const we_command *command) {
    const we_claim_methods *claim = we_claim_of(command);
    const bool has = claim->narrows && (command->away || n->cpu_can);
    const we_narrow can = has ? claim->narrows(command) : (we_narrow){0};
    const int32_t image = command->in[0], residual = command->in[1], result = command->out;
    for (size_t i = 0; i < we_command_reads(command); i++) {
        int32_t tensor = we_command_read(command, i);
        if (!(tensor == image ? can.in : tensor == residual && can.residual))
            forbid(n, tensor);
    }
    if (image == residual && !can.residual)
        forbid(n, residual);
    for (size_t i = 0; i < we_command_writes(command); i++) {
        if (!can.out || we_command_write(command, i) != result)
            forbid(n, we_command_write(command, i));
    }
    if (can.together)
        tie(n, (int32_t[]){image, residual, result}, 3);
    if (can.result_as_residual && residual >= 0)
        tie(n, (int32_t[]){residual, result}, 2);
}

static void visit_raster(narrowing *n, const we_command *command) {
    for (size_t i = 0; i < command->u.raster.count; i++)
        tie(n, (int32_t[]){command->u.raster.regions[i].source, command->out}, 2);
}

/* What lies between the commands of a loop's body, only they know. */
static void visit_other(narrowing *n, const we_command *command) {
    for (size_t i = 0; i < we_command_reads(command); i++)
        forbid(n, we_command_read(command, i));
    for (size_t i = 0; i < we_command_writes(command); i++)
        forbid(n, we_command_write(command, i));
    if (command->kind != WE_COMMAND_LOOP)
        return;
    for (size_t c = 0; c < command->u.loop.body_count; c++) /* what an iteration makes for itself */
        visit_other(n, &command->u.loop.body[c]);
}

static void visit(narrowing *n, const we_command *command) {
    if (command->kind == WE_COMMAND_CLAIM)
        visit_claim(n, command);
    else if (command->kind == WE_COMMAND_RASTER)
        visit_raster(n, command);
    else
        visit_other(n, command);
}

we_status we_plan_narrow(we_program *program, bool cpu_can, const bool *kept, we_error *err) {
    int64_t offset;
    narrowing n = {
        .program = program, .may = we_memory_new(program->tensor_count * sizeof *n.may), .cpu_can = cpu_can};
    if (!n.may)
        return we_error_no_memory(err);
    for (size_t t = 0; t < program->tensor_count; t++) {
        const we_tensor *tensor = &program->tensors[t];
        n.may[t] = tensor->kind == WE_TENSOR_TEMP && tensor->alias_of < 0 && tensor->dtype == WE_F32;
    }
    for (int32_t t = 0; t < (int32_t)program->tensor_count; t++) {
        const we_tensor *tensor = &program->tensors[t];
        if (kept[t] || tensor->kind == WE_TENSOR_VIEW || tensor->dtype != WE_F32)
            forbid(&n, t);
    }
    do {
        n.changed = false;
        for (size_t c = 0; c < program->command_count; c++)
            visit(&n, &program->commands[c]);
    } while (n.changed);
    for (int32_t t = 0; t < (int32_t)program->tensor_count; t++) {
        if (n.may[we_program_root(program, t, &offset)])
            program->tensors[t].dtype = WE_BF16;
    }
    we_memory_free(n.may);
    return WE_OK;
}
