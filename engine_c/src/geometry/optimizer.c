/* The training operators Adagrad, Adam and Momentum. Inputs are R (learning rate), T (how many updates there
 * were), then lists of values X, gradients G and states; outputs the new values and states.
 * Source: ONNX operator specification, domain ai.onnx.preview.training. */
#include <string.h>

#include "geometry/parts.h"
#include "ops/sequence.h"

static int32_t binary(we_lower *l, we_binary_fn fn, int32_t a, int32_t b) {
    return we_emit_binary(l, fn, a, b, WE_NEW);
}

static double attribute(const we_lower *l, const char *name, double fallback) {
    return we_node_float(l->call.node, name, fallback);
}

/* T > 0 ? yes : no; T has the type of R by now. */
static int32_t if_started(we_lower *l, int32_t t, int32_t yes, int32_t no) {
    int32_t zero = we_lower_scalar(l, we_lower_tensor(l, t).dtype, 0);
    return we_emit_select(l, binary(l, WE_BINARY_Greater, t, zero), yes, no, WE_NEW);
}

typedef struct update {
    int32_t r, t, x, g; /* g: the gradient, that of the regularisation included */
    int32_t state[2], out[3];
} update;

static void adagrad(we_lower *l, const update *u) {
    int32_t slowed =
        we_emit_plus(l, we_emit_times(l, u->t, attribute(l, "decay_factor", 0), WE_NEW), 1, WE_NEW);
    int32_t rate = binary(l, WE_BINARY_Div, u->r, slowed);
    int32_t sum = binary(l, WE_BINARY_Add, u->state[0], binary(l, WE_BINARY_Mul, u->g, u->g));
    int32_t root =
        we_emit_plus(l, we_emit_unary(l, WE_UNARY_Sqrt, sum, WE_NEW), attribute(l, "epsilon", 0), WE_NEW);
    int32_t change = binary(l, WE_BINARY_Div, binary(l, WE_BINARY_Mul, rate, u->g), root);
    we_emit_store(l, binary(l, WE_BINARY_Sub, u->x, change), u->out[0]);
    we_emit_store(l, sum, u->out[1]);
}

/* factor * old + (1 - factor) * fresh */
static int32_t blend(we_lower *l, double factor, int32_t old, int32_t fresh) {
    return binary(l, WE_BINARY_Add, we_emit_times(l, old, factor, WE_NEW),
                  we_emit_times(l, fresh, 1 - factor, WE_NEW));
}

/* 1 - factor ^ T */
static int32_t one_less_power(we_lower *l, double factor, int32_t t) {
    we_dtype dtype = we_lower_tensor(l, t).dtype;
    int32_t power = binary(l, WE_BINARY_Pow, we_lower_scalar(l, dtype, factor), t);
    return binary(l, WE_BINARY_Sub, we_lower_scalar(l, dtype, 1), power);
}

static void adam(we_lower *l, const update *u) {
    double alpha = attribute(l, "alpha", 0.9), beta = attribute(l, "beta", 0.999);
    int32_t momentum = blend(l, alpha, u->state[0], u->g);
    int32_t square = blend(l, beta, u->state[1], binary(l, WE_BINARY_Mul, u->g, u->g));
    int32_t root =
        we_emit_plus(l, we_emit_unary(l, WE_UNARY_Sqrt, square, WE_NEW), attribute(l, "epsilon", 0), WE_NEW);
    int32_t bias = we_emit_unary(l, WE_UNARY_Sqrt, one_less_power(l, beta, u->t), WE_NEW);
    int32_t rate =
        binary(l, WE_BINARY_Div, binary(l, WE_BINARY_Mul, u->r, bias), one_less_power(l, alpha, u->t));
    rate = if_started(l, u->t, rate, u->r);
    int32_t change = binary(l, WE_BINARY_Mul, rate, binary(l, WE_BINARY_Div, momentum, root));
    int32_t x = binary(l, WE_BINARY_Sub, u->x, change);
    double kept = 1 - attribute(l, "norm_coefficient_post", 0);
    we_emit_store(l, kept == 1 ? x : we_emit_times(l, x, kept, WE_NEW), u->out[0]);
    we_emit_store(l, momentum, u->out[1]);
    we_emit_store(l, square, u->out[2]);
}

static void momentum(we_lower *l, const update *u) {
    double alpha = attribute(l, "alpha", 0);
    we_dtype dtype = we_lower_tensor(l, u->r).dtype;
    int32_t one = we_lower_scalar(l, dtype, 1);
    int32_t beta = if_started(l, u->t, we_lower_scalar(l, dtype, attribute(l, "beta", 1)), one);
    int32_t moved = binary(l, WE_BINARY_Add, we_emit_times(l, u->state[0], alpha, WE_NEW),
                           binary(l, WE_BINARY_Mul, beta, u->g));
    int32_t change = moved;
    if (strcmp(we_node_string(l->call.node, "mode", "standard"), "nesterov") == 0)
        change = binary(l, WE_BINARY_Add, u->g, we_emit_times(l, moved, alpha, WE_NEW));
    change = binary(l, WE_BINARY_Mul, u->r, change);
    we_emit_store(l, binary(l, WE_BINARY_Sub, u->x, change), u->out[0]);
    we_emit_store(l, moved, u->out[1]);
}

void we_rule_optimizer(we_lower *l) {
    int32_t kinds, count;
    l->status = we_call_optimizer(&l->call, &kinds, &count);
    if (l->status == WE_OK && l->call.node->output_count != (kinds - 1) * count)
        we_lower_fail(l, WE_INVALID_MODEL, "there must be an output for every value and every state");
    if (l->status != WE_OK)
        return;
    int32_t r = we_emit_wide(l, we_emit_reshape(l, l->in[0], 0, NULL, WE_NEW));
    int32_t t = we_emit_reshape(l, l->in[1], 0, NULL, WE_NEW);
    t = we_emit_as(l, t, we_lower_tensor(l, r).dtype);
    for (int32_t i = 0; i < count; i++) {
        update u = {.r = r, .t = t, .x = we_emit_wide(l, l->in[2 + i])};
        u.g = we_emit_wide(l, l->in[2 + count + i]);
        u.g =
            binary(l, WE_BINARY_Add, we_emit_times(l, u.x, attribute(l, "norm_coefficient", 0), WE_NEW), u.g);
        for (int32_t k = 2; k < kinds; k++)
            u.state[k - 2] = we_emit_wide(l, l->in[2 + k * count + i]);
        for (int32_t k = 0; k < kinds - 1; k++)
            u.out[k] = l->out[k * count + i];
        if (l->call.node->op == WE_OP_Adagrad)
            adagrad(l, &u);
        else if (l->call.node->op == WE_OP_Adam)
            adam(l, &u);
        else
            momentum(l, &u);
    }
}
