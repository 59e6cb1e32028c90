#include "geometry/cell_activation.h"

#include <string.h>

#include "geometry/parts.h"

#define ABSENT (-1e300) /* no parameter anybody means */

static const struct {
    const char *name;
    double alpha, beta; /* defaults; ABSENT where the function has none */
} ROWS[] = {
#define WE_ACTIVATION_ROW(Name, alpha, beta) {#Name, alpha, beta},
#include "geometry/cell_activations.inc"
#undef WE_ACTIVATION_ROW
};

static we_activation_kind find(we_lower *l, const char *name) {
    for (int32_t i = 0; i < WE_ACTIVATION_COUNT; i++) {
        if (strcmp(ROWS[i].name, name) == 0)
            return (we_activation_kind)i;
    }
    we_lower_fail(l, WE_INVALID_MODEL, "attribute 'activations' names a function that does not exist");
    return WE_ACTIVATION_Tanh;
}

/* The next value of the list for a function that has one. */
static double next(const we_attr *list, size_t *used, double fallback) {
    if (fallback == ABSENT || !list || *used >= list->count)
        return fallback;
    return list->reals[(*used)++];
}

const we_activation_kind *we_usual_activations(int32_t op, int32_t *count) {
    static const we_activation_kind GATED[] = {WE_ACTIVATION_Sigmoid, WE_ACTIVATION_Tanh, WE_ACTIVATION_Tanh};
    static const we_activation_kind PLAIN[] = {WE_ACTIVATION_Tanh};
    *count = op == WE_OP_LSTM ? 3 : op == WE_OP_GRU ? 2 : 1;
    return op == WE_OP_RNN ? PLAIN : GATED;
}

void we_activations_of(we_lower *l, int32_t first, int32_t count, const we_activation_kind *fallback,
                       we_activation *out) {
    const we_attr *names = we_node_attr(l->call.node, "activations");
    const we_attr *alphas = we_node_attr(l->call.node, "activation_alpha");
    const we_attr *betas = we_node_attr(l->call.node, "activation_beta");
    size_t alphas_used = 0, betas_used = 0;
    if (names && names->count < (size_t)(first + count)) {
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'activations' does not name a function for every use");
        return;
    }
    for (int32_t i = 0; i < first + count; i++) {
        we_activation_kind kind = names ? find(l, names->strings[i]) : fallback[i % count];
        we_activation found = {kind, next(alphas, &alphas_used, ROWS[kind].alpha),
                               next(betas, &betas_used, ROWS[kind].beta)};
        if (i >= first)
            out[i - first] = found;
    }
}

/* x where the condition holds, else other */
static int32_t x_if(we_lower *l, we_binary_fn compare, int32_t x, double bound, int32_t other, int32_t into) {
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    int32_t holds = we_emit_binary(l, compare, x, we_lower_scalar(l, dtype, bound), WE_NEW);
    return we_emit_select(l, holds, x, other, into);
}

int32_t we_emit_activation(we_lower *l, const we_activation *activation, int32_t x, int32_t into) {
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    double alpha = activation->alpha, beta = activation->beta;
    int32_t zero = 0, one = 0, line;
    switch (activation->kind) {
    case WE_ACTIVATION_Tanh:
        return we_emit_unary(l, WE_UNARY_Tanh, x, into);
    case WE_ACTIVATION_Relu:
        return we_emit_unary(l, WE_UNARY_Relu, x, into);
    case WE_ACTIVATION_Sigmoid:
        return we_emit_unary(l, WE_UNARY_Sigmoid, x, into);
    case WE_ACTIVATION_Softplus:
        return we_emit_unary(l, WE_UNARY_Softplus, x, into);
    case WE_ACTIVATION_Softsign:
        line = we_emit_plus(l, we_emit_unary(l, WE_UNARY_Abs, x, WE_NEW), 1, WE_NEW);
        return we_emit_binary(l, WE_BINARY_Div, x, line, into);
    case WE_ACTIVATION_Affine:
        return we_emit_plus(l, we_emit_times(l, x, alpha, WE_NEW), beta, into);
    case WE_ACTIVATION_LeakyRelu:
        return x_if(l, WE_BINARY_GreaterOrEqual, x, 0, we_emit_times(l, x, alpha, WE_NEW), into);
    case WE_ACTIVATION_ThresholdedRelu:
        return x_if(l, WE_BINARY_GreaterOrEqual, x, alpha, we_lower_scalar(l, dtype, 0), into);
    case WE_ACTIVATION_ScaledTanh:
        line = we_emit_unary(l, WE_UNARY_Tanh, we_emit_times(l, x, beta, WE_NEW), WE_NEW);
        return we_emit_times(l, line, alpha, into);
    case WE_ACTIVATION_HardSigmoid:
        zero = we_lower_scalar(l, dtype, 0);
        one = we_lower_scalar(l, dtype, 1);
        line = we_emit_plus(l, we_emit_times(l, x, alpha, WE_NEW), beta, WE_NEW);
        return we_emit_binary(l, WE_BINARY_Max, we_emit_binary(l, WE_BINARY_Min, line, one, WE_NEW), zero,
                              into);
    case WE_ACTIVATION_Elu: /* the minimum keeps exp finite where the other branch is taken */
        zero = we_lower_scalar(l, dtype, 0);
        line = we_emit_unary(l, WE_UNARY_Exp, we_emit_binary(l, WE_BINARY_Min, x, zero, WE_NEW), WE_NEW);
        line = we_emit_times(l, we_emit_plus(l, line, -1, WE_NEW), alpha, WE_NEW);
        return x_if(l, WE_BINARY_GreaterOrEqual, x, 0, line, into);
    case WE_ACTIVATION_COUNT:
        break;
    }
    return x;
}
