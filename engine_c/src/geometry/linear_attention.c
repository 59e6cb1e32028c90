/* LinearAttention: a state S [batch, shared heads, key size, value size] that each step decays, corrects and
 * extends by k x v; the step's output is scale * q x S. Written out step by step.
 * Source: ONNX operator specification, LinearAttention. */
#include <math.h>

#include "geometry/parts.h"
#include "ops/sequence.h"

/* Step t of a packed sequence [batch, steps, heads * size] as [batch, heads, rows, columns]. */
static int32_t step_of(we_lower *l, int32_t x, int64_t t, int64_t heads, int64_t rows, int64_t columns) {
    int64_t dims[4] = {we_lower_tensor(l, x).dims[0], heads, rows, columns};
    return we_emit_reshape(l, we_emit_part(l, x, 1, t, 1, 1), 4, dims, WE_NEW);
}

/* [batch, shared heads, rows, key size] x S */
static int32_t read_state(we_lower *l, const we_linear_attention *a, int32_t x, int64_t rows, int32_t state) {
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
    return we_emit_matmul(l, x, state, &p, 4, dims, WE_NEW);
}

typedef struct sequences {
    int32_t query, key, value, decay, beta; /* decay after exp; -1 where absent */
} sequences;

static int32_t next_state(we_lower *l, const we_linear_attention *a, const sequences *s, int64_t t,
                          int32_t state) {
    int32_t value = step_of(l, s->value, t, a->shared_heads, 1, a->value_size);
    if (a->gated) {
        int32_t kept = step_of(l, s->decay, t, a->shared_heads, a->decay_size, 1);
        state = we_emit_binary(l, WE_BINARY_Mul, state, kept, WE_NEW);
    }
    if (a->corrected) {
        int32_t key = step_of(l, s->key, t, a->shared_heads, 1, a->key_size);
        int32_t known = read_state(l, a, key, 1, state);
        value = we_emit_binary(l, WE_BINARY_Sub, value, known, WE_NEW);
        value = we_emit_binary(l, WE_BINARY_Mul, step_of(l, s->beta, t, a->beta_heads, 1, 1), value, WE_NEW);
    }
    int32_t key = step_of(l, s->key, t, a->shared_heads, a->key_size, 1);
    return we_emit_binary(l, WE_BINARY_Add, state, we_emit_binary(l, WE_BINARY_Mul, key, value, WE_NEW),
                          WE_NEW);
}

static int32_t sequence(we_lower *l, int32_t index, we_dtype wide) {
    return we_call_input(&l->call, index) ? we_emit_as(l, l->in[index], wide) : -1;
}

void we_rule_linear_attention(we_lower *l) {
    we_linear_attention a;
    l->status = we_call_linear_attention(&l->call, &a);
    if (l->status != WE_OK)
        return;
    we_dtype wide = we_wide_type(l->call.in[0]->dtype);
    double scale = we_node_float(l->call.node, "scale", 0);
    scale = scale == 0 ? 1 / sqrt((double)a.key_size) : scale;
    sequences s = {.query = we_emit_times(l, sequence(l, 0, wide), scale, WE_NEW),
                   .key = sequence(l, 1, wide),
                   .value = sequence(l, 2, wide),
                   .decay = a.gated ? we_emit_unary(l, WE_UNARY_Exp, sequence(l, 4, wide), WE_NEW) : -1,
                   .beta = sequence(l, 5, wide)};
    int64_t state_dims[4] = {a.batch, a.shared_heads, a.key_size, a.value_size};
    int32_t state = sequence(l, 3, wide);
    state = state < 0 ? we_emit_fill(l, wide, 4, state_dims, 0) : state;
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int32_t outputs = we_lower_temp(l, wide, out.rank, out.dims);
    int64_t group = a.heads / a.shared_heads, width = a.heads * a.value_size;
    we_raster raster = {0};
    for (int64_t t = 0; t < a.steps && l->status == WE_OK; t++) {
        state = next_state(l, &a, &s, t, state);
        int32_t query = step_of(l, s.query, t, a.shared_heads, group, a.key_size);
        we_box box = {.rank = 2,
                      .size = {a.batch, width},
                      .src_stride = {width, 1},
                      .dst_stride = {a.steps * width, 1},
                      .dst_offset = t * width};
        we_raster_add(l, &raster, read_state(l, &a, query, group, state), &box);
    }
    we_emit_raster(l, &raster, outputs);
    we_emit_store(l, outputs, l->out[0]);
    if (l->call.node->output_count > 1)
        we_emit_store(l, state, l->out[1]);
}
