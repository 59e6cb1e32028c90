/* Gradients of element-wise commands: the formulas of unary_grads.inc and binary_grads.inc, then a sum over
 * what an operand was repeated for. */
#include "base/dtype.h"
#include "geometry/parts.h"
#include "grad/grad.h"

#define FN(Name, of) we_emit_unary(l, WE_UNARY_##Name, of, WE_NEW)
#define ADD(left, right) we_emit_binary(l, WE_BINARY_Add, left, right, WE_NEW)
#define SUB(left, right) we_emit_binary(l, WE_BINARY_Sub, left, right, WE_NEW)
#define MUL(left, right) we_emit_binary(l, WE_BINARY_Mul, left, right, WE_NEW)
#define DIV(left, right) we_emit_binary(l, WE_BINARY_Div, left, right, WE_NEW)
#define POW(left, right) we_emit_binary(l, WE_BINARY_Pow, left, right, WE_NEW)
#define NUMBER(value) we_lower_scalar(l, we_lower_tensor(l, g).dtype, value)
#define WHERE(Compare, left, right, yes, no)                                                                 \
    we_emit_select(l, we_emit_binary(l, WE_BINARY_##Compare, left, right, WE_NEW), yes, no, WE_NEW)

/* ---- The formulas as functions; a row that is missing does not compile. What they do not name is not
 * computed anew where they stand in a loop ---- */

typedef int32_t (*formula)(we_gradients *s, const we_command *c, int32_t g);

#define x we_grad_read(s, c, 0)
#define a we_grad_read(s, c, 0)
#define b we_grad_read(s, c, 1)
#define y we_grad_written(s, c)
#define FORMULA(name, value)                                                                                 \
    static int32_t name(we_gradients *s, const we_command *c, int32_t g) {                                   \
        we_lower *l = s->l;                                                                                  \
        (void)l;                                                                                             \
        (void)c;                                                                                             \
        return value;                                                                                        \
    }
#define WE_UNARY_GRAD(Name, of_x) FORMULA(unary_##Name, of_x)
#define WE_BINARY_GRAD(Name, of_a, of_b) FORMULA(first_##Name, of_a) FORMULA(second_##Name, of_b)
#include "grad/binary_grads.inc"
#include "grad/unary_grads.inc"
#undef WE_UNARY_GRAD
#undef WE_BINARY_GRAD
#undef x
#undef a
#undef b
#undef y
#define WE_UNARY_FLAT(Name) static const formula unary_##Name = NULL;
#include "grad/unary_grads.inc"
#undef WE_UNARY_FLAT

static formula unary_of(we_unary_fn fn) {
    switch (fn) {
#define WE_UNARY_FN(Name, name, formula)                                                                     \
    case WE_UNARY_##Name:                                                                                    \
        return unary_##Name;
#include "kernels/unary_fns.inc"
#undef WE_UNARY_FN
    default:
        return NULL;
    }
}

/* Of operand 0 or 1; NULL for functions of integers and comparisons. */
static formula binary_of(we_binary_fn fn, int32_t operand) {
    switch (fn) {
#define WE_BINARY_FN(Name, name, floating, integer)                                                          \
    case WE_BINARY_##Name:                                                                                   \
        return operand == 0 ? first_##Name : second_##Name;
#include "kernels/binary_fns.inc"
#undef WE_BINARY_FN
    default:
        return NULL;
    }
}

/* ---- Commands ---- */

bool we_grad_passes(const we_program *program, const we_command *command) {
    switch (command->kind) {
    case WE_COMMAND_UNARY:
        return unary_of(command->u.unary) != NULL;
#define WE_COMMAND_FLAT(KIND) case WE_COMMAND_##KIND:
#include "grad/command_grads.inc"
#undef WE_COMMAND_FLAT
        return false;
    default:
        return we_dtype_kind(program->tensors[command->out].dtype) == 'f';
    }
}

/* The sum over the dims that `like` was repeated along, in its shape. */
static int32_t sum_to(we_lower *l, int32_t x, const we_tensor *like) {
    we_tensor from = we_lower_tensor(l, x);
    bool reduced[WE_MAX_RANK] = {false}, any = false;
    for (int32_t i = 0; i < from.rank; i++) {
        int32_t own = i - (from.rank - like->rank);
        reduced[i] = from.dims[i] != 1 && (own < 0 || like->dims[own] == 1);
        any = any || reduced[i];
    }
    return any ? we_emit_reduce(l, WE_REDUCE_Sum, x, reduced, WE_NEW) : x;
}

/* A formula of scalars and a smaller operand may have made less than the whole of the result. */
static int32_t spread_to(we_lower *l, int32_t x, int32_t whole) {
    we_tensor from = we_lower_tensor(l, x), to = we_lower_tensor(l, whole);
    if (from.count == to.count)
        return x;
    return we_emit_binary(l, WE_BINARY_Add, x, we_emit_fill(l, to.dtype, to.rank, to.dims, 0), WE_NEW);
}

static void add_broadcast(we_gradients *g, int32_t tensor, int32_t part, int32_t of_out) {
    we_tensor like = we_lower_tensor(g->l, tensor);
    we_grad_add(g, tensor, sum_to(g->l, spread_to(g->l, part, of_out), &like));
}

void we_grad_unary(we_gradients *g, const we_command *command, int32_t of_out) {
    we_grad_add(g, command->in[0], unary_of(command->u.unary)(g, command, of_out));
}

void we_grad_binary(we_gradients *g, const we_command *command, int32_t of_out) {
    for (int32_t i = 0; i < 2; i++) {
        formula of_operand = binary_of(command->u.binary.fn, i);
        if (of_operand && we_grad_wants(g, command->in[i]))
            add_broadcast(g, command->in[i], of_operand(g, command, of_out), of_out);
    }
}

void we_grad_select(we_gradients *g, const we_command *command, int32_t of_out) {
    we_lower *l = g->l;
    int32_t condition = we_grad_read(g, command, 0);
    int32_t zero = we_lower_scalar(l, we_lower_tensor(l, of_out).dtype, 0);
    if (we_grad_wants(g, command->in[1]))
        add_broadcast(g, command->in[1], we_emit_select(l, condition, of_out, zero, WE_NEW), of_out);
    if (we_grad_wants(g, command->in[2]))
        add_broadcast(g, command->in[2], we_emit_select(l, condition, zero, of_out, WE_NEW), of_out);
}

void we_grad_cast(we_gradients *g, const we_command *command, int32_t of_out) {
    we_grad_add(g, command->in[0], we_emit_as(g->l, of_out, we_lower_tensor(g->l, command->in[0]).dtype));
}
