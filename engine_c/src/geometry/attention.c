/* Attention: softmax(scale * Q x K^T + mask) x V per head.
 *
 * The products read Q, K and V where they lie - packed or not - by their strides, and heads that share keys
 * are one dim of the batch whose step in K and V is 0; so nothing is transposed or repeated on the way in. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "geometry/parts.h"
#include "ops/sequence.h"

/* [batch, head, row, size] inside a tensor; steps in elements, that of `size` is 1. */
typedef struct heads {
    int32_t tensor;
    int64_t batch, head, row;
} heads;

static heads heads_of(int32_t tensor, bool packed, int64_t count, int64_t length, int64_t size) {
    if (packed)
        return (heads){tensor, length * count * size, size, count * size};
    return (heads){tensor, length * count * size, length * size, size};
}

/* [batch, head, past + length, size] from what is cached (-1: nothing) and what is new. */
static void append(we_lower *l, const we_attention *a, int32_t past, heads new, int64_t size, int32_t into) {
    we_raster raster = {0};
    int64_t total = a->past + a->keys, step = total * size;
    int64_t lengths[2] = {a->past, a->keys};
    heads from[2] = {heads_of(past, false, a->shared_heads, a->past, size), new};
    for (int32_t i = past < 0; i < 2; i++) {
        we_box box = {.rank = 4,
                      .size = {a->batch, a->shared_heads, lengths[i], size},
                      .src_stride = {from[i].batch, from[i].head, from[i].row, 1},
                      .dst_stride = {a->shared_heads * step, step, size, 1},
                      .dst_offset = i ? a->past * size : 0};
        we_raster_add(l, &raster, from[i].tensor, &box);
    }
    we_emit_raster(l, &raster, into);
}

/* K or V as the products read it, cache included; writes the present_ output where there is one. */
static heads with_past(we_lower *l, const we_attention *a, int32_t index, int32_t past, int32_t output,
                       int64_t size) {
    heads new = heads_of(l->in[index], a->packed, a->shared_heads, a->keys, size);
    bool wanted = output < l->call.node->output_count && l->call.node->outputs[output] >= 0;
    if (past >= 0 || wanted) {
        int64_t dims[4] = {a->batch, a->shared_heads, a->past + a->keys, size};
        int32_t present = wanted ? l->out[output] : we_lower_temp(l, l->call.in[index]->dtype, 4, dims);
        append(l, a, past, new, size, present);
        new = heads_of(present, false, a->shared_heads, a->past + a->keys, size);
    }
    new.tensor = we_emit_as(l, new.tensor, we_wide_type(l->call.in[0]->dtype));
    return new;
}

/* The batch of both products: batch, shared head, query head of it - the last folded into the rows where the
 * rows of a group follow each other. `x` is the operand with one row per query. */
static we_matmul batched(const we_attention *a, const heads *x, const heads *shared) {
    int64_t group = a->heads / a->shared_heads;
    we_matmul p = {.m = a->queries,
                   .a_row = x->row,
                   .a_column = 1,
                   .batch_rank = 3,
                   .batch = {a->batch, a->shared_heads, group},
                   .a_batch = {x->batch, x->head * group, x->head},
                   .b_batch = {shared->batch, shared->head, 0}};
    if (a->queries == 1 || x->head == a->queries * x->row) {
        p.batch_rank = 2;
        p.m *= group;
        p.a_row = a->queries == 1 ? x->head : x->row;
    }
    return p;
}

/* scale * Q x K^T: [batch, heads, queries, keys]. */
static int32_t scores_of(we_lower *l, const we_attention *a, const heads *key) {
    double scale = we_node_float(l->call.node, "scale", 1 / sqrt((double)a->size));
    heads query = heads_of(we_emit_wide(l, l->in[0]), a->packed, a->heads, a->queries, a->size);
    query.tensor = we_emit_times(l, query.tensor, scale, WE_NEW);
    int64_t dims[4] = {a->batch, a->heads, a->queries, a->past + a->keys};
    we_matmul p = batched(a, &query, key);
    p.k = a->size;
    p.n = a->past + a->keys;
    p.b_row = 1;
    p.b_column = key->row;
    return we_emit_matmul(l, query.tensor, key->tensor, &p, 4, dims, WE_NEW);
}

/* ---- Which keys a query sees ---- */

/* Both, where -1 stands for everything. */
static int32_t both(we_lower *l, int32_t allowed, int32_t more) {
    return allowed < 0 ? more : we_emit_binary(l, WE_BINARY_And, allowed, more, WE_NEW);
}

static int32_t integer(we_lower *l, int64_t value) {
    return we_emit_range(l, value, 0, NULL);
}

/* Where causality, the window and the padding of an outer cache let queries see keys; -1: everywhere. */
static int32_t positions_allowed(we_lower *l, const we_attention *a) {
    int64_t keys = a->past + a->keys, far = keys + a->past + a->queries;
    int64_t row_dims[2] = {a->queries, 1}, batch_dims[4] = {a->batch, 1, 1, 1};
    bool outer = we_call_input(&l->call, 6) != NULL;
    int32_t allowed = -1;
    if (!a->causal && a->left < 0 && a->right < 0 && !outer)
        return -1;
    int32_t key = we_emit_range(l, 0, 1, &keys), filled = -1;
    int32_t place = we_emit_range(l, a->past, 2, row_dims); /* of the query among the keys */
    if (outer) {
        filled = we_emit_reshape(l, l->in[6], 4, batch_dims, WE_NEW);
        int32_t before = we_emit_binary(l, WE_BINARY_Sub, filled, integer(l, a->queries), WE_NEW);
        place = we_emit_binary(l, WE_BINARY_Add, before, place, WE_NEW);
        allowed = we_emit_binary(l, WE_BINARY_Less, key, filled, WE_NEW);
    }
    if (a->causal)
        allowed = both(l, allowed, we_emit_binary(l, WE_BINARY_LessOrEqual, key, place, WE_NEW));
    if (a->left >= 0) {
        int32_t reach = integer(l, a->left < far ? a->left : far);
        int32_t first = we_emit_binary(l, WE_BINARY_Sub, place, reach, WE_NEW);
        allowed = both(l, allowed, we_emit_binary(l, WE_BINARY_GreaterOrEqual, key, first, WE_NEW));
    }
    if (a->right >= 0) {
        int32_t reach = integer(l, a->right < far ? a->right : far);
        int32_t last = we_emit_binary(l, WE_BINARY_Add, place, reach, WE_NEW);
        allowed = both(l, allowed, we_emit_binary(l, WE_BINARY_LessOrEqual, key, last, WE_NEW));
    }
    return allowed;
}

/* The mask in the last dim's full length: what it does not reach is not seen. */
static int32_t padded_mask(we_lower *l, const we_attention *a) {
    we_tensor mask = *l->call.in[3];
    int64_t keys = a->past + a->keys, own = mask.dims[mask.rank - 1];
    we_raster raster = {.fill = mask.dtype == WE_BOOL ? 0 : -INFINITY};
    if (own == keys)
        return l->in[3];
    we_box box = {.rank = 2,
                  .size = {own ? mask.count / own : 0, own},
                  .src_stride = {own, 1},
                  .dst_stride = {keys, 1}};
    mask.dims[mask.rank - 1] = keys;
    int32_t padded = we_lower_temp(l, mask.dtype, mask.rank, mask.dims);
    we_raster_add(l, &raster, l->in[3], &box);
    we_emit_raster(l, &raster, padded);
    return padded;
}

/* What is added to the scores: the floating mask, and -infinity where a query does not see a key; -1:
 * nothing. It has the batch and head dims of the masks only, and folds to a constant where positions are
 * known. */
static int32_t bias_of(we_lower *l, const we_attention *a, we_dtype dtype) {
    int32_t allowed = positions_allowed(l, a), bias = -1;
    const we_tensor *mask = we_call_input(&l->call, 3);
    if (mask && mask->dtype == WE_BOOL)
        allowed = both(l, allowed, padded_mask(l, a));
    else if (mask)
        bias = we_emit_as(l, padded_mask(l, a), dtype);
    if (allowed < 0)
        return bias;
    bias = bias < 0 ? we_lower_scalar(l, dtype, 0) : bias;
    return we_emit_select(l, allowed, bias, we_lower_scalar(l, dtype, -INFINITY), WE_NEW);
}

/* ---- The rule ---- */

static int32_t soften(we_lower *l, int32_t scores) {
    double cap = we_node_float(l->call.node, "softcap", 0);
    if (!(cap > 0))
        return scores;
    int32_t bent = we_emit_unary(l, WE_UNARY_Tanh, we_emit_times(l, scores, 1 / cap, WE_NEW), WE_NEW);
    return we_emit_times(l, bent, cap, WE_NEW);
}

/* Softmax in the wide type, or in F64 where softmax_precision says so. */
static int32_t probabilities(we_lower *l, int32_t scores, bool masked) {
    enum {
        ONNX_DOUBLE = 11,
    };
    int32_t shifted, sum;
    if (we_node_int(l->call.node, "softmax_precision", 0) == ONNX_DOUBLE)
        scores = we_emit_as(l, scores, WE_F64);
    int32_t power = we_emit_shifted_exp(l, scores, 3, masked, &shifted, &sum);
    int32_t weights = we_emit_binary(l, WE_BINARY_Div, power, sum, WE_NEW);
    return we_emit_as(l, weights, we_wide_type(l->call.in[0]->dtype));
}

static void weigh_values(we_lower *l, const we_attention *a, int32_t weights, const heads *value) {
    int64_t dims[4] = {a->batch, a->heads, a->queries, a->value_size};
    heads rows = heads_of(weights, false, a->heads, a->queries, a->past + a->keys);
    we_matmul p = batched(a, &rows, value);
    p.k = a->past + a->keys;
    p.n = a->value_size;
    p.b_row = value->row;
    p.b_column = 1;
    int32_t y = we_emit_matmul(l, weights, value->tensor, &p, 4, dims, WE_NEW);
    y = we_emit_as(l, y, l->call.in[0]->dtype);
    if (a->packed)
        y = we_emit_transpose(l, y, (int32_t[]){0, 2, 1, 3}, WE_NEW);
    we_emit_store(l, y, l->out[0]);
}

void we_rule_attention(we_lower *l) {
    enum {
        AFTER_CAP = 1,
        AFTER_MASK,
        AFTER_SOFTMAX,
    };
    we_attention a;
    l->status = we_call_attention(&l->call, &a);
    if (l->status != WE_OK)
        return;
    int32_t past_key = we_call_input(&l->call, 4) ? l->in[4] : -1;
    int32_t past_value = we_call_input(&l->call, 5) ? l->in[5] : -1;
    heads key = with_past(l, &a, 1, past_key, 1, a.size);
    heads value = with_past(l, &a, 2, past_value, 2, a.value_size);
    if (a.past + a.keys == 0) { /* nothing to attend to */
        for (int32_t i = 0; i < l->call.node->output_count; i += i ? 1 : 3) {
            we_raster zeros = {0};
            we_emit_raster(l, &zeros, l->out[i]);
        }
        return;
    }
    int32_t scores = scores_of(l, &a, &key), shown = scores;
    scores = soften(l, scores);
    shown = a.mode == AFTER_CAP ? scores : shown;
    int32_t bias = bias_of(l, &a, we_lower_tensor(l, scores).dtype);
    if (bias >= 0)
        scores = we_emit_binary(l, WE_BINARY_Add, scores, bias, WE_NEW);
    shown = a.mode == AFTER_MASK ? scores : shown;
    int32_t weights = probabilities(l, scores, bias >= 0);
    shown = a.mode == AFTER_SOFTMAX ? weights : shown;
    if (l->call.node->output_count > 3)
        we_emit_store(l, shown, l->out[3]);
    weigh_values(l, &a, weights, &value);
}
