/* The operator Gradient: inputs are what to differentiate by and last the loss, outputs the gradients. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "geometry/parts.h"
#include "grad/grad.h"
#include "graph/opspec.h"

bool we_grad_wants(const we_gradients *g, int32_t tensor) {
    return tensor >= 0 && (size_t)tensor < g->known && g->wanted[tensor];
}

static bool has_dims_of(const we_tensor *a, const we_tensor *b) {
    return a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0);
}

void we_grad_add(we_gradients *g, int32_t tensor, int32_t part) {
    we_lower *l = g->l;
    if (l->status != WE_OK || !we_grad_wants(g, tensor))
        return;
    we_tensor whole = we_lower_tensor(l, tensor), given = we_lower_tensor(l, part);
    if (!has_dims_of(&whole, &given))
        part = we_emit_reshape(l, part, whole.rank, whole.dims, WE_NEW);
    g->of[tensor] = g->of[tensor] < 0 ? part : we_emit_binary(l, WE_BINARY_Add, g->of[tensor], part, WE_NEW);
}

/* Whatever has no formula is refused by the name of the node that it was made for. */
static void refuse(we_gradients *g, const we_command *command) {
    const we_node *node = &g->l->call.graph->nodes[command->node];
    if (g->l->status == WE_OK)
        g->l->status = we_error_set_at(g->l->call.err, WE_INVALID_MODEL, we_op_name(node->op), node->name,
                                       "it has no gradient: train only what comes after it");
}

bool we_grad_keeps_whole(int32_t op) {
    switch (op) {
#define WE_COMPOSITE_GRAD(Op, name) case WE_OP_##Op:
#include "grad/composite_grads.inc"
#undef WE_COMPOSITE_GRAD
        return true;
    default:
        return false;
    }
}

void we_grad_claim(we_gradients *g, const we_command *command, int32_t of_out) {
    switch (g->l->call.graph->nodes[command->node].op) {
#define WE_COMPOSITE_GRAD(Op, name)                                                                          \
    case WE_OP_##Op:                                                                                         \
        we_grad_##name(g, command, of_out);                                                                  \
        break;
#include "grad/composite_grads.inc"
#undef WE_COMPOSITE_GRAD
    default:
        refuse(g, command); /* of a gradient that was not known to be differentiated */
    }
}

void we_grad_command(we_gradients *g, const we_command *command, int32_t of_out) {
    switch (command->kind) {
#define WE_COMMAND_GRAD(KIND, function)                                                                      \
    case WE_COMMAND_##KIND:                                                                                  \
        we_grad_##function(g, command, of_out);                                                              \
        break;
#include "grad/command_grads.inc"
#undef WE_COMMAND_GRAD
#define WE_COMMAND_OPAQUE(KIND) case WE_COMMAND_##KIND:
#include "grad/command_grads.inc"
#undef WE_COMMAND_OPAQUE
        refuse(g, command);
        break;
    default:
        break; /* never between what is chosen and the loss */
    }
}

/* ---- What lies between ---- */

static bool any_read(const we_command *command, const bool *flags) {
    for (size_t i = 0; i < we_command_reads(command); i++) {
        if (flags[we_command_read(command, i)])
            return true;
    }
    return false;
}

static bool any_written(const we_command *command, const bool *flags) {
    for (size_t i = 0; i < we_command_writes(command); i++) {
        if (flags[we_command_write(command, i)])
            return true;
    }
    return false;
}

/* Integers and what follows from them do not change by a little. */
static void flag_floats(const we_program *program, const we_command *command, bool *flags) {
    for (size_t i = 0; i < we_command_writes(command); i++) {
        int32_t tensor = we_command_write(command, i);
        flags[tensor] = flags[tensor] || we_dtype_kind(program->tensors[tensor].dtype) == 'f';
    }
}

/* Forward from what is chosen, then back from the loss; a tensor is wanted where both arrive. */
static void find_wanted(const we_lower *l, size_t commands, bool *wanted, bool *needed) {
    const we_program *program = l->program;
    int32_t chosen = l->call.node->input_count - 1;
    for (int32_t i = 0; i < chosen; i++)
        wanted[l->in[i]] = true;
    for (size_t c = 0; c < commands; c++) {
        const we_command *command = &program->commands[c];
        if (any_read(command, wanted) && we_grad_passes(program, command))
            flag_floats(program, command, wanted);
    }
    needed[l->in[chosen]] = true;
    for (size_t c = commands; c-- > 0;) {
        const we_command *command = &program->commands[c];
        if (!any_written(command, needed) || !we_grad_passes(program, command))
            continue;
        for (size_t i = 0; i < we_command_reads(command); i++)
            needed[we_command_read(command, i)] = true;
        for (size_t i = 0; i < we_command_writes(command); i++) /* a loop may read one to make another */
            needed[we_command_write(command, i)] = true;
    }
    for (size_t t = 0; t < program->tensor_count; t++)
        wanted[t] = wanted[t] && needed[t];
}

/* ---- The walk ---- */

int32_t we_grad_read(we_gradients *g, const we_command *command, int32_t i) {
    return g->reversal ? we_reversal_read(g, command, i) : command->in[i];
}

int32_t we_grad_written(we_gradients *g, const we_command *command) {
    return g->reversal ? we_reversal_written(g, command) : command->out;
}

static void walk(we_gradients *g, size_t commands) {
    for (size_t c = commands; c-- > 0 && g->l->status == WE_OK;) {
        we_command command = g->l->program->commands[c]; /* emitting may move them */
        if (!any_written(&command, g->wanted))
            continue;
        if (command.kind == WE_COMMAND_LOOP)
            we_grad_loop(g, c);
        else if (g->of[command.out] >= 0)
            we_grad_command(g, &command, g->of[command.out]);
    }
}

static void store(we_gradients *g) {
    we_lower *l = g->l;
    for (int32_t i = 0; i < l->call.node->output_count && l->status == WE_OK; i++) {
        if (l->call.node->outputs[i] < 0)
            continue;
        int32_t part = g->of[l->in[i]];
        we_raster nothing = {0};
        if (part < 0) /* the loss does not depend on it */
            we_emit_raster(l, &nothing, l->out[i]);
        else
            we_emit_store(l, part, l->out[i]);
    }
}

static void differentiate(we_lower *l, bool *wanted, bool *needed, int32_t *of) {
    size_t commands = l->program->command_count;
    int32_t loss = l->in[l->call.node->input_count - 1];
    we_gradients g = {.l = l, .known = l->program->tensor_count, .wanted = wanted, .of = of};
    memset(of, -1, g.known * sizeof *of);
    find_wanted(l, commands, wanted, needed);
    if (!wanted[loss]) {
        we_lower_fail(l, WE_INVALID_MODEL, "the loss does not depend on any of what it is differentiated by");
        return;
    }
    we_tensor scalar = we_lower_tensor(l, loss);
    of[loss] = we_emit_fill(l, scalar.dtype, scalar.rank, scalar.dims, 1);
    walk(&g, commands);
    store(&g);
}

void we_rule_gradient(we_lower *l) {
    size_t tensors = l->program->tensor_count;
    bool *wanted = we_memory_new(tensors * sizeof *wanted), *needed = we_memory_new(tensors * sizeof *needed);
    int32_t *of = we_memory_new(tensors * sizeof *of);
    if (wanted && needed && of)
        differentiate(l, wanted, needed, of);
    else if (l->status == WE_OK)
        l->status = we_error_no_memory(l->call.err);
    we_memory_free(wanted);
    we_memory_free(needed);
    we_memory_free(of);
}
