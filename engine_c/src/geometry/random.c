/* Rules of random numbers. */
#include <math.h>

#include "base/dtype.h"
#include "geometry/lower.h"

/* Numbers of the given kind in a fresh float32 tensor like the output, scaled to a * r + b. turn: an I64,
 * other numbers for each; -1: there is none. */
static int32_t draw(we_lower *l, int32_t turn, bool normal, double a, double b) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    const we_attr *seed = we_node_attr(l->call.node, "seed");
    we_command command = {.kind = WE_COMMAND_RANDOM, .node = l->node, .in = {turn, -1, -1}};
    command.out = we_lower_temp(l, WE_F32, out.rank, out.dims);
    command.u.random.normal = normal;
    command.u.random.seeded = seed != NULL;
    command.u.random.seed = seed ? seed->real : 0;
    if (l->status == WE_OK)
        l->status = we_program_command(l->program, &command, l->call.err);
    int32_t scaled = command.out;
    if (a != 1)
        scaled = we_emit_binary(l, WE_BINARY_Mul, scaled, we_lower_scalar(l, WE_F32, a), WE_NEW);
    return b == 0 ? scaled : we_emit_binary(l, WE_BINARY_Add, scaled, we_lower_scalar(l, WE_F32, b), WE_NEW);
}

void we_rule_random_uniform(we_lower *l) {
    double low = we_node_float(l->call.node, "low", 0), high = we_node_float(l->call.node, "high", 1);
    we_emit_cast(l, draw(l, -1, false, high - low, low), WE_DTYPE_COUNT, l->out[0]);
}

void we_rule_random_normal(we_lower *l) {
    double mean = we_node_float(l->call.node, "mean", 0), scale = we_node_float(l->call.node, "scale", 1);
    we_emit_cast(l, draw(l, -1, true, scale, mean), WE_DTYPE_COUNT, l->out[0]);
}

/* In inference all elements are kept; in training each is dropped with probability `ratio`, the others
 * scaled. Besides what ONNX has, a fourth input is the turn: with a seed, others are dropped in each turn,
 * and the same whenever that turn is taken again. */
void we_rule_dropout(we_lower *l) {
    const we_tensor *ratio = we_call_input(&l->call, 1), *training = we_call_input(&l->call, 2);
    bool trains = training && we_tensor_integer(training, 0);
    double dropped = trains && ratio ? we_tensor_number(ratio, 0) : 0.5;
    bool mask = l->call.node->output_count > 1;
    we_tensor out = we_lower_tensor(l, l->out[0]);
    if (!trains || dropped == 0) {
        we_raster kept = {.fill = 1};
        we_emit_reshape(l, l->in[0], out.rank, out.dims, l->out[0]);
        if (mask)
            we_emit_raster(l, &kept, l->out[1]);
        return;
    }
    int32_t chance = we_lower_scalar(l, WE_F32, dropped);
    int32_t turn = we_call_input(&l->call, 3) ? l->in[3] : -1;
    int32_t kept = we_emit_binary(l, WE_BINARY_GreaterOrEqual, draw(l, turn, false, 1, 0), chance, WE_NEW);
    int32_t scaled =
        we_emit_binary(l, WE_BINARY_Mul, l->in[0], we_lower_scalar(l, out.dtype, 1 / (1 - dropped)), WE_NEW);
    we_emit_select(l, kept, scaled, we_lower_scalar(l, out.dtype, 0), l->out[0]);
    if (mask)
        we_emit_reshape(l, kept, out.rank, out.dims, l->out[1]);
}

/* 1 with the probability the input gives. */
void we_rule_bernoulli(we_lower *l) {
    int32_t chance = we_emit_cast(l, l->in[0], WE_F32, WE_NEW);
    int32_t hit = we_emit_binary(l, WE_BINARY_Less, draw(l, -1, false, 1, 0), chance, WE_NEW);
    we_emit_cast(l, hit, WE_DTYPE_COUNT, l->out[0]);
}
