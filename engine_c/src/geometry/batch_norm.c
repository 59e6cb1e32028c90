/* BatchNormalization: y = x * s + (bias - mean * s), s = scale / sqrt(variance + epsilon). With known
 * statistics the constants fold and two passes stay; in training the statistics are those of the batch. */
#include "geometry/parts.h"

enum {
    SCALE = 1,
    BIAS,
    MEAN,
    VARIANCE,
    PARAMETERS,
};

/* momentum * old + (1 - momentum) * of_batch */
static void update(we_lower *l, int32_t old, int32_t of_batch, int32_t into) {
    double momentum = we_node_float(l->call.node, "momentum", 0.9);
    int32_t kept = we_emit_times(l, old, momentum, WE_NEW);
    int32_t added = we_emit_times(l, of_batch, 1 - momentum, WE_NEW);
    we_emit_store(l, we_emit_binary(l, WE_BINARY_Add, kept, added, WE_NEW), into);
}

/* Replace the given statistics by those of the batch, and write the running ones. */
static void train(we_lower *l, int32_t x, int32_t *parameter) {
    int32_t rank = l->call.in[0]->rank;
    bool reduced[WE_MAX_RANK] = {false};
    for (int32_t i = 0; i < rank; i++)
        reduced[i] = i != 1;
    int32_t mean = we_emit_mean(l, x, reduced, WE_NEW);
    int32_t centred = we_emit_binary(l, WE_BINARY_Sub, x, mean, WE_NEW);
    int32_t squares = we_emit_binary(l, WE_BINARY_Mul, centred, centred, WE_NEW);
    int32_t variance = we_emit_mean(l, squares, reduced, WE_NEW);
    if (l->call.node->output_count > 1)
        update(l, parameter[MEAN], mean, l->out[1]);
    if (l->call.node->output_count > 2)
        update(l, parameter[VARIANCE], variance, l->out[2]);
    parameter[MEAN] = mean;
    parameter[VARIANCE] = variance;
}

void we_rule_batch_norm(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int64_t dims[WE_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    int32_t parameter[PARAMETERS] = {0}, data = we_emit_wide(l, l->in[0]);
    if (x->count == 0 && we_emit_if_empty(l))
        return;
    dims[0] = x->rank > 1 ? x->dims[1] : 1;
    for (int32_t i = SCALE; i < PARAMETERS; i++) {
        int32_t given = we_emit_as(l, l->in[i], we_wide_type(x->dtype));
        parameter[i] = we_emit_reshape(l, given, x->rank > 1 ? x->rank - 1 : 1, dims, WE_NEW);
    }
    if (we_node_int(l->call.node, "training_mode", 0))
        train(l, data, parameter);
    double epsilon = we_node_float(l->call.node, "epsilon", 1e-5);
    int32_t deviation = we_emit_plus(l, parameter[VARIANCE], epsilon, WE_NEW);
    deviation = we_emit_unary(l, WE_UNARY_Sqrt, deviation, WE_NEW);
    int32_t scale = we_emit_binary(l, WE_BINARY_Div, parameter[SCALE], deviation, WE_NEW);
    int32_t moved = we_emit_binary(l, WE_BINARY_Mul, parameter[MEAN], scale, WE_NEW);
    int32_t shift = we_emit_binary(l, WE_BINARY_Sub, parameter[BIAS], moved, WE_NEW);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Mul, data, scale, WE_NEW);
    we_emit_binary(l, WE_BINARY_Add, scaled, shift, l->out[0]);
}
