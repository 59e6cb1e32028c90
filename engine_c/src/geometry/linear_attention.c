/* LinearAttention: a state S [batch, shared heads, key size, value size] that each step decays, corrects and
 * extends by k x v; the step's output is scale * q x S. A loop over the steps; the state stays in one place.
 * Source: ONNX operator specification, LinearAttention. */
#include <math.h>

#include "geometry/parts.h"
#include "ops/sequence.h"

/* The view of one step of a sequence [steps, batch, heads * size], as [batch, heads, rows, columns]. */
static int32_t step_of(we_lower *l, we_loop_builder *loop, int32_t x, int64_t heads, int64_t rows,
                       int64_t columns) {
    int64_t dims[4] = {we_lower_tensor(l, x).dims[1], heads, rows, columns};
    return we_loop_view_of(l, loop, x, 4, dims, &(we_address){.stride = {dims[0] * heads * rows * columns}});
}

/* [batch, shared heads, rows, key size] x S */
static int32_t read_state(we_lower *l, const we_linear_attention *a, int32_t x, int64_t rows, int32_t state,
                          int32_t into) {
    int64_t dims[4] = {a->batch, a->shared_heads, rows, a->value_size};
    int64_t each = a->key_size * a->value_size;
    we_matmul p = {.m = rows,
                   .k = a->key_size,
                   .n = a->value_size,
                   .a_row = a->key_size,
                   .a_column = 1,
                   .b_row = a->value_size,
                   .b_column = 1,
                   .batch_rank = 1,
                   .batch = {a->batch * a->shared_heads},
                   .a_batch = {rows * a->key_size},
                   .b_batch = {each}};
    return we_emit_matmul(l, x, state, &p, 4, dims, into);
}

/* The inputs of one step; decay after exp. -1 where absent. */
typedef struct step {
    int32_t query, key, value, decay, beta;
} step;

/* S, in place: decayed, corrected, extended. */
static void update_state(we_lower *l, const we_linear_attention *a, const step *s, int32_t state) {
    int32_t old = state, value = s->value;
    int64_t column[4] = {a->batch, a->shared_heads, a->key_size, 1};
    if (a->gated)
        old = we_emit_binary(l, WE_BINARY_Mul, state, s->decay, WE_NEW);
    if (a->corrected) {
        int32_t known = read_state(l, a, s->key, 1, old, WE_NEW);
        value = we_emit_binary(l, WE_BINARY_Sub, value, known, WE_NEW);
        value = we_emit_binary(l, WE_BINARY_Mul, s->beta, value, WE_NEW);
    }
    int32_t key = we_emit_reshape(l, s->key, 4, column, WE_NEW);
    we_emit_binary(l, WE_BINARY_Add, old, we_emit_binary(l, WE_BINARY_Mul, key, value, WE_NEW), state);
}

/* Input `index` in the wide type, steps first; -1 where it is omitted. */
static int32_t sequence(we_lower *l, int32_t index) {
    if (!we_call_input(&l->call, index))
        return -1;
    return we_emit_transpose(l, we_emit_wide(l, l->in[index]), (int32_t[]){1, 0, 2}, WE_NEW);
}

/* outputs: [steps, batch, heads * value size]; `state` ends as the last one. */
static void run_steps(we_lower *l, const we_linear_attention *a, int32_t first, int32_t state,
                      int32_t outputs) {
    double scale = we_node_float(l->call.node, "scale", 0);
    scale = scale == 0 ? 1 / sqrt((double)a->key_size) : scale;
    int32_t query = we_emit_times(l, sequence(l, 0), scale, WE_NEW), key = sequence(l, 1);
    int32_t value = sequence(l, 2), decay = sequence(l, 4), beta = sequence(l, 5);
    int64_t group = a->heads / a->shared_heads;
    int64_t state_dims[4] = {a->batch, a->shared_heads, a->key_size, a->value_size};
    if (a->gated)
        decay = we_emit_unary(l, WE_UNARY_Exp, decay, WE_NEW);
    we_loop_builder loop;
    we_loop_begin(l, &loop, 1, &a->steps);
    we_loop_seed(l, &loop, state, first);
    int32_t kept = we_loop_view_of(l, &loop, state, 4, state_dims, &(we_address){0});
    step s = {.query = step_of(l, &loop, query, a->shared_heads, group, a->key_size),
              .key = step_of(l, &loop, key, a->shared_heads, 1, a->key_size),
              .value = step_of(l, &loop, value, a->shared_heads, 1, a->value_size)};
    s.decay = a->gated ? step_of(l, &loop, decay, a->shared_heads, a->decay_size, 1) : -1;
    s.beta = a->corrected ? step_of(l, &loop, beta, a->beta_heads, 1, 1) : -1;
    update_state(l, a, &s, kept);
    read_state(l, a, s.query, group, kept, step_of(l, &loop, outputs, a->shared_heads, group, a->value_size));
    we_loop_end(l, &loop);
}

void we_rule_linear_attention(we_lower *l) {
    we_linear_attention a;
    l->status = we_call_linear_attention(&l->call, &a);
    if (l->status != WE_OK)
        return;
    we_dtype wide = we_wide_type(l->call.in[0]->dtype);
    int64_t state_dims[4] = {a.batch, a.shared_heads, a.key_size, a.value_size};
    int64_t output_dims[3] = {a.steps, a.batch, a.heads * a.value_size};
    int32_t first =
        we_call_input(&l->call, 3) ? we_emit_as(l, l->in[3], wide) : we_emit_fill(l, wide, 4, state_dims, 0);
    int32_t state = first, outputs = we_lower_temp(l, wide, 3, output_dims);
    if (a.steps > 0) {
        state = we_lower_temp(l, wide, 4, state_dims);
        run_steps(l, &a, first, state, outputs);
    }
    we_emit_store(l, we_emit_transpose(l, outputs, (int32_t[]){1, 0, 2}, WE_NEW), l->out[0]);
    if (l->call.node->output_count > 1)
        we_emit_store(l, state, l->out[1]);
}
