/* Rules of element-wise operators. */
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"
#include "graph/opspec.h"

/* Operators and functions share their names. */
static we_unary_fn unary_of(int32_t op) {
    int32_t fn = 0;
    while (fn < WE_UNARY_COUNT && strcmp(we_unary_name((we_unary_fn)fn), we_op_name(op)) != 0)
        fn++;
    return (we_unary_fn)fn;
}

static we_binary_fn binary_of(int32_t op) {
    int32_t fn = 0;
    while (fn < WE_BINARY_COUNT && strcmp(we_binary_name((we_binary_fn)fn), we_op_name(op)) != 0)
        fn++;
    return (we_binary_fn)fn;
}

void we_rule_unary(we_lower *l) {
    we_emit_unary(l, unary_of(l->call.node->op), l->in[0], l->out[0]);
}

static void chain(we_lower *l, we_binary_fn fn) {
    int32_t count = l->call.node->input_count, so_far = l->in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    if (count == 1)
        we_emit_reshape(l, so_far, out.rank, out.dims, l->out[0]);
    for (int32_t i = 1; i < count; i++)
        so_far = we_emit_binary(l, fn, so_far, l->in[i], i + 1 == count ? l->out[0] : WE_NEW);
}

void we_rule_binary(we_lower *l) {
    chain(l, binary_of(l->call.node->op));
}

void we_rule_sum(we_lower *l) {
    chain(l, WE_BINARY_Add);
}

/* x^2 and x^3 are products, 8 ulps from x^3 at most. False where the exponent is another, or not one number.
 */
static bool multiply_power(we_lower *l) {
    const we_tensor *exponent = l->call.in[1], *base = l->call.in[0];
    if (exponent->kind != WE_TENSOR_CONST || exponent->count != 1 || exponent->rank > base->rank)
        return false;
    double wanted = we_tensor_number(exponent, 0);
    if (wanted != 2 && wanted != 3)
        return false;
    int32_t square = we_emit_binary(l, WE_BINARY_Mul, l->in[0], l->in[0], wanted == 2 ? l->out[0] : WE_NEW);
    if (wanted == 3)
        we_emit_binary(l, WE_BINARY_Mul, square, l->in[0], l->out[0]);
    return true;
}

/* The result has the base's type; an integer to a fractional power is computed in double first. */
void we_rule_power(we_lower *l) {
    we_dtype dtype = l->call.in[0]->dtype, other = l->call.in[1]->dtype;
    bool fractional = we_dtype_kind(dtype) != 'f' && we_dtype_kind(other) == 'f';
    we_dtype common = fractional ? WE_F64 : dtype;
    if (we_dtype_kind(dtype) == 'f' && multiply_power(l))
        return;
    int32_t base = l->in[0], exponent = l->in[1];
    if (fractional)
        base = we_emit_cast(l, base, common, WE_NEW);
    if (other != common)
        exponent = we_emit_cast(l, exponent, common, WE_NEW);
    int32_t power = we_emit_binary(l, WE_BINARY_Pow, base, exponent, fractional ? WE_NEW : l->out[0]);
    if (fractional)
        we_emit_cast(l, power, dtype, l->out[0]);
}

void we_rule_compare(we_lower *l) {
    we_emit_binary(l, binary_of(l->call.node->op), l->in[0], l->in[1], l->out[0]);
}

void we_rule_not(we_lower *l) {
    int32_t zero = we_lower_scalar(l, l->call.in[0]->dtype, 0);
    we_emit_binary(l, WE_BINARY_Equal, l->in[0], zero, l->out[0]);
}

void we_rule_select(we_lower *l) {
    we_emit_select(l, l->in[0], l->in[1], l->in[2], l->out[0]);
}

void we_rule_clip(we_lower *l) {
    we_tensor x = *l->call.in[0];
    bool low = we_call_input(&l->call, 1) != NULL, high = we_call_input(&l->call, 2) != NULL;
    int32_t so_far = l->in[0];
    if (!low && !high)
        we_emit_reshape(l, so_far, x.rank, x.dims, l->out[0]);
    if (low)
        so_far = we_emit_binary(l, WE_BINARY_Max, so_far, l->in[1], high ? WE_NEW : l->out[0]);
    if (high)
        we_emit_binary(l, WE_BINARY_Min, so_far, l->in[2], l->out[0]);
}

/* ---- Activations; x is the input, s(v) the scalar v of its type ---- */

static int32_t scalar(we_lower *l, double value) {
    return we_lower_scalar(l, l->call.in[0]->dtype, value);
}

/* x > 0 ? x : other */
static void positive_or(we_lower *l, int32_t other) {
    int32_t positive = we_emit_binary(l, WE_BINARY_Greater, l->in[0], scalar(l, 0), WE_NEW);
    we_emit_select(l, positive, l->in[0], other, l->out[0]);
}

void we_rule_leaky_relu(we_lower *l) {
    double alpha = we_node_float(l->call.node, "alpha", 0.01);
    int32_t less = we_emit_binary(l, WE_BINARY_Mul, l->in[0], scalar(l, alpha), WE_NEW);
    if (alpha > 0 && alpha <= 1) /* the larger one; at 0 infinity times alpha would be NaN */
        we_emit_binary(l, WE_BINARY_Max, l->in[0], less, l->out[0]);
    else
        positive_or(l, less);
}

void we_rule_prelu(we_lower *l) {
    we_tensor joined = *l->call.in[0];
    const we_tensor *slope = l->call.in[1];
    bool fits = we_broadcast(joined.rank, joined.dims, slope->rank, slope->dims, &joined.rank, joined.dims) &&
                joined.rank == l->call.in[0]->rank;
    if (!fits || memcmp(joined.dims, l->call.in[0]->dims, (size_t)joined.rank * sizeof *joined.dims) != 0) {
        we_lower_fail(l, WE_INVALID_MODEL, "the slope does not broadcast to the input");
        return;
    }
    positive_or(l, we_emit_binary(l, WE_BINARY_Mul, l->in[0], l->in[1], WE_NEW));
}

/* alpha * (exp(min(x, 0)) - 1): the minimum keeps exp finite where the other branch is taken. */
void we_rule_elu(we_lower *l) {
    double alpha = we_node_float(l->call.node, "alpha", 1.0);
    int32_t low = we_emit_binary(l, WE_BINARY_Min, l->in[0], scalar(l, 0), WE_NEW);
    int32_t power = we_emit_unary(l, WE_UNARY_Exp, low, WE_NEW);
    int32_t less_one = we_emit_binary(l, WE_BINARY_Sub, power, scalar(l, 1), WE_NEW);
    positive_or(l, we_emit_binary(l, WE_BINARY_Mul, less_one, scalar(l, alpha), WE_NEW));
}

static int32_t hard_sigmoid(we_lower *l, double alpha, double beta, int32_t into) {
    int32_t line = we_emit_binary(l, WE_BINARY_Mul, l->in[0], scalar(l, alpha), WE_NEW);
    line = we_emit_binary(l, WE_BINARY_Add, line, scalar(l, beta), WE_NEW);
    line = we_emit_binary(l, WE_BINARY_Max, line, scalar(l, 0), WE_NEW);
    return we_emit_binary(l, WE_BINARY_Min, line, scalar(l, 1), into);
}

void we_rule_hard_sigmoid(we_lower *l) {
    const we_node *node = l->call.node;
    hard_sigmoid(l, we_node_float(node, "alpha", 0.2), we_node_float(node, "beta", 0.5), l->out[0]);
}

void we_rule_hard_swish(we_lower *l) {
    we_emit_binary(l, WE_BINARY_Mul, l->in[0], hard_sigmoid(l, 1.0 / 6, 0.5, WE_NEW), l->out[0]);
}

/* x/2 * (1 + inner) with inner = erf(x / sqrt 2), or tanh(sqrt(2/pi) * (x + 0.044715 x^3)).
 * Source: ONNX operator specification, Gelu. */
void we_rule_gelu(we_lower *l) {
    const char *form = we_node_string(l->call.node, "approximate", "none");
    int32_t x = l->in[0], inner;
    if (strcmp(form, "tanh") == 0) {
        int32_t square = we_emit_binary(l, WE_BINARY_Mul, x, x, WE_NEW);
        int32_t cube = we_emit_binary(l, WE_BINARY_Mul, square, x, WE_NEW);
        int32_t bent = we_emit_binary(l, WE_BINARY_Mul, cube, scalar(l, 0.044715), WE_NEW);
        inner = we_emit_binary(l, WE_BINARY_Add, x, bent, WE_NEW);
        inner = we_emit_binary(l, WE_BINARY_Mul, inner, scalar(l, 0.79788456080286535588), WE_NEW);
        inner = we_emit_unary(l, WE_UNARY_Tanh, inner, WE_NEW);
    } else if (strcmp(form, "none") == 0) {
        inner = we_emit_binary(l, WE_BINARY_Mul, x, scalar(l, 0.70710678118654752440), WE_NEW);
        inner = we_emit_unary(l, WE_UNARY_Erf, inner, WE_NEW);
    } else {
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'approximate' must be 'none' or 'tanh'");
        return;
    }
    inner = we_emit_binary(l, WE_BINARY_Add, inner, scalar(l, 1), WE_NEW);
    int32_t half = we_emit_binary(l, WE_BINARY_Mul, x, scalar(l, 0.5), WE_NEW);
    we_emit_binary(l, WE_BINARY_Mul, half, inner, l->out[0]);
}
