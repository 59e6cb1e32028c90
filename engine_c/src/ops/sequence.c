#include "ops/sequence.h"

#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"

static bool is_float(const we_tensor *x) {
    return we_dtype_kind(x->dtype) == 'f';
}

static bool has_dims(const we_tensor *x, int32_t rank, const int64_t *dims) {
    bool same = x->rank == rank;
    for (int32_t i = 0; same && i < rank; i++)
        same = x->dims[i] == dims[i];
    return same;
}

/* ---- Attention ---- */

/* Lengths and head sizes of one of the three inputs. */
static we_status read_heads(const we_call *call, int32_t index, int64_t heads, int64_t *batch,
                            int64_t *length, int64_t *size) {
    const we_tensor *x = call->in[index];
    bool packed = x->rank == 3;
    if (heads < 1 || (packed ? x->dims[2] % heads : x->dims[1] != heads))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d does not divide into %lld heads", (int)index,
                            (long long)heads);
    *batch = x->dims[0];
    *length = packed ? x->dims[1] : x->dims[2];
    *size = packed ? x->dims[2] / heads : x->dims[3];
    return WE_OK;
}

static we_status check_past(const we_call *call, const we_attention *a) {
    const we_tensor *key = we_call_input(call, 4), *value = we_call_input(call, 5);
    const we_tensor *lengths = we_call_input(call, 6);
    int64_t keys[4] = {a->batch, a->shared_heads, a->past, a->size};
    int64_t values[4] = {a->batch, a->shared_heads, a->past, a->value_size};
    if (!key != !value)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "past_key and past_value must be given together");
    if (key && (!has_dims(key, 4, keys) || !has_dims(value, 4, values) || key->dtype != call->in[1]->dtype ||
                value->dtype != call->in[2]->dtype))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "past_key and past_value must be [batch, heads, length, size] of the types of K "
                            "and V");
    if (!lengths)
        return WE_OK;
    if (key || lengths->dtype != WE_I64 || !has_dims(lengths, 1, &a->batch))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "nonpad_kv_seqlen must be I64 [batch], and excludes past_key");
    return WE_OK;
}

static we_status check_mask(const we_call *call, const we_attention *a) {
    const we_tensor *mask = we_call_input(call, 3);
    if (!mask)
        return WE_OK;
    int64_t dims[4] = {a->batch, a->heads, a->queries, a->past + a->keys};
    bool fits = mask->rank >= 1 && mask->rank <= 4 && mask->dims[mask->rank - 1] <= dims[3];
    for (int32_t i = 2; fits && i <= mask->rank; i++)
        fits = mask->dims[mask->rank - i] == 1 || mask->dims[mask->rank - i] == dims[4 - i];
    if (!fits)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the mask does not broadcast to [batch, heads, queries, keys]");
    if (mask->dtype != WE_BOOL && !is_float(mask))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the mask must be BOOL or floating");
    return WE_OK;
}

we_status we_call_attention(const we_call *call, we_attention *out) {
    const we_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
    int64_t key_batch, key_size, value_batch, values;
    memset(out, 0, sizeof *out);
    if ((q->rank != 3 && q->rank != 4) || k->rank != q->rank || v->rank != q->rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "Q, K and V must all have rank 3 or all rank 4");
    if (!is_float(q) || k->dtype != q->dtype || !is_float(v))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "Q and K must have one floating type, and V a floating one");
    out->packed = q->rank == 3;
    out->heads = we_node_int(call->node, "q_num_heads", out->packed ? 0 : q->dims[1]);
    out->shared_heads = we_node_int(call->node, "kv_num_heads", out->packed ? 0 : k->dims[1]);
    WE_TRY(read_heads(call, 0, out->heads, &out->batch, &out->queries, &out->size));
    WE_TRY(read_heads(call, 1, out->shared_heads, &key_batch, &out->keys, &key_size));
    WE_TRY(read_heads(call, 2, out->shared_heads, &value_batch, &values, &out->value_size));
    if (key_batch != out->batch || value_batch != out->batch || key_size != out->size || values != out->keys)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the batches, lengths or head sizes of Q, K and V differ");
    if (out->heads % out->shared_heads)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld query heads cannot share %lld key heads",
                            (long long)out->heads, (long long)out->shared_heads);
    out->past = we_call_input(call, 4) && call->in[4]->rank == 4 ? call->in[4]->dims[2] : 0;
    out->left = we_node_int(call->node, "left_window_size", -1);
    out->right = we_node_int(call->node, "right_window_size", -1);
    out->causal = we_node_int(call->node, "is_causal", 0) != 0;
    out->mode = we_node_int(call->node, "qk_matmul_output_mode", 0);
    if (out->left < -1 || out->right < -1 || out->mode < 0 || out->mode > 3)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "windows must be -1 or more, and qk_matmul_output_mode 0 to 3");
    WE_TRY(check_past(call, out));
    return check_mask(call, out);
}

/* ---- Linear attention ---- */

static we_status check_gates(const we_call *call, we_linear_attention *a) {
    const we_tensor *decay = we_call_input(call, 4), *beta = we_call_input(call, 5);
    const we_tensor *state = we_call_input(call, 3);
    int64_t state_dims[4] = {a->batch, a->shared_heads, a->key_size, a->value_size};
    if (a->gated != (decay != NULL) || a->corrected != (beta != NULL))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "this update_rule %s decay and %s beta",
                            a->gated ? "needs" : "forbids", a->corrected ? "needs" : "forbids");
    if (decay) {
        int64_t width = decay->rank == 3 ? decay->dims[2] : 0;
        a->decay_size = width == a->shared_heads ? 1 : a->key_size;
        int64_t dims[3] = {a->batch, a->steps, a->shared_heads * a->decay_size};
        if (!has_dims(decay, 3, dims))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                                "decay must be [batch, steps, heads] or [batch, steps, heads * key size]");
    }
    if (beta) {
        int64_t width = beta->rank == 3 ? beta->dims[2] : 0;
        a->beta_heads = width == 1 ? 1 : a->shared_heads;
        int64_t dims[3] = {a->batch, a->steps, a->beta_heads};
        if (!has_dims(beta, 3, dims))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                                "beta must be [batch, steps, heads] or [batch, steps, 1]");
    }
    if (state && (!has_dims(state, 4, state_dims) || !is_float(state)))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "past_state must be floating [batch, heads, key size, value size]");
    return WE_OK;
}

we_status we_call_linear_attention(const we_call *call, we_linear_attention *out) {
    const we_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
    const char *rule = we_node_string(call->node, "update_rule", "gated_delta");
    int64_t heads = we_node_int(call->node, "q_num_heads", 0);
    int64_t shared = we_node_int(call->node, "kv_num_heads", 0);
    memset(out, 0, sizeof *out);
    out->gated = strcmp(rule, "gated") == 0 || strcmp(rule, "gated_delta") == 0;
    out->corrected = strcmp(rule, "delta") == 0 || strcmp(rule, "gated_delta") == 0;
    if (!out->gated && !out->corrected && strcmp(rule, "linear") != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "update_rule '%.30s' is unknown", rule);
    if (q->rank != 3 || k->rank != 3 || v->rank != 3 || !is_float(q))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "query, key and value must be floating, of rank 3");
    for (int32_t i = 1; i < call->node->input_count; i++) {
        if (i != 3 && call->in[i] && call->in[i]->dtype != q->dtype)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d has another type than the query", (int)i);
    }
    if (heads < 1 || shared < 1 || heads % shared || q->dims[2] % heads || k->dims[2] % shared ||
        v->dims[2] % shared || q->dims[2] / heads != k->dims[2] / shared)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the widths do not divide into %lld and %lld heads",
                            (long long)heads, (long long)shared);
    for (int32_t i = 0; i < 2; i++) {
        if (k->dims[i] != q->dims[i] || v->dims[i] != q->dims[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "query, key and value differ in dim %d", (int)i);
    }
    out->batch = q->dims[0];
    out->steps = q->dims[1];
    out->heads = heads;
    out->shared_heads = shared;
    out->key_size = q->dims[2] / heads;
    out->value_size = v->dims[2] / shared;
    return check_gates(call, out);
}

/* ---- Rotary embedding ---- */

we_status we_call_rotary(const we_call *call, we_rotary *out) {
    const we_tensor *x = call->in[0], *cosines = call->in[1], *places = we_call_input(call, 3);
    memset(out, 0, sizeof *out);
    if (x->rank != 3 && x->rank != 4)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the input must have rank 3 or 4");
    out->packed = x->rank == 3;
    out->heads = we_node_int(call->node, "num_heads", out->packed ? 0 : x->dims[1]);
    WE_TRY(read_heads(call, 0, out->packed ? out->heads : x->dims[1], &out->batch, &out->length, &out->size));
    out->heads = out->packed ? out->heads : x->dims[1];
    int64_t turned = we_node_int(call->node, "rotary_embedding_dim", 0);
    turned = turned == 0 ? out->size : turned;
    if (turned < 0 || turned > out->size || turned % 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld of %lld elements per head cannot turn in pairs",
                            (long long)turned, (long long)out->size);
    out->half = turned / 2;
    int64_t given[3] = {out->batch, out->length, out->half};
    int64_t cached[2] = {cosines->rank == 2 ? cosines->dims[0] : 0, out->half};
    if (!has_dims(cosines, places ? 2 : 3, places ? cached : given) ||
        !has_dims(call->in[2], cosines->rank, cosines->dims))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "both caches must be %s",
                            places ? "[positions, pairs]" : "[batch, length, pairs]");
    if (cosines->dtype != x->dtype || call->in[2]->dtype != x->dtype || !is_float(x))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input and caches must have one floating type");
    if (places && (!has_dims(places, 2, given) || (places->dtype != WE_I64 && places->dtype != WE_I32)))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "position_ids must be integers [batch, length]");
    return WE_OK;
}

/* ---- Recurrence ---- */

static int64_t gates_of(int32_t op) {
    return op == WE_OP_LSTM ? 4 : op == WE_OP_GRU ? 3 : 1;
}

static we_status check_state(const we_call *call, const we_recurrence *r, int32_t index) {
    const we_tensor *state = we_call_input(call, index);
    int64_t dims[3] = {r->batch_first ? r->batch : r->directions, r->batch_first ? r->directions : r->batch,
                       r->hidden};
    if (state && (!has_dims(state, 3, dims) || state->dtype != call->in[0]->dtype))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "input %d must be [directions, batch, hidden], or with layout 1 "
                            "[batch, directions, hidden], of the type of X",
                            (int)index);
    return WE_OK;
}

static we_status check_matrices(const we_call *call, const we_recurrence *r) {
    const we_tensor *bias = we_call_input(call, 3), *lengths = we_call_input(call, 4);
    const we_tensor *peepholes = we_call_input(call, 7);
    int64_t w[3] = {r->directions, r->gates * r->hidden, r->inputs};
    int64_t weights[3] = {r->directions, r->gates * r->hidden, r->hidden};
    int64_t biases[2] = {r->directions, 2 * r->gates * r->hidden}, p[2] = {r->directions, 3 * r->hidden};
    if (!has_dims(call->in[1], 3, w) || !has_dims(call->in[2], 3, weights) ||
        (bias && !has_dims(bias, 2, biases)) || (peepholes && !has_dims(peepholes, 2, p)))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "W, R, B or P do not fit %lld directions, %lld inputs and %lld hidden elements",
                            (long long)r->directions, (long long)r->inputs, (long long)r->hidden);
    for (int32_t i = 1; i < 4; i++) {
        if (we_call_input(call, i) && call->in[i]->dtype != call->in[0]->dtype)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d has another type than X", (int)i);
    }
    if (peepholes && peepholes->dtype != call->in[0]->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "P has another type than X");
    if (lengths && (!has_dims(lengths, 1, &r->batch) || we_dtype_kind(lengths->dtype) != 'i'))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "sequence_lens must be integers [batch]");
    return WE_OK;
}

we_status we_call_recurrence(const we_call *call, we_recurrence *out) {
    const we_tensor *x = call->in[0], *weights = call->in[2];
    const char *direction = we_node_string(call->node, "direction", "forward");
    bool both = strcmp(direction, "bidirectional") == 0;
    memset(out, 0, sizeof *out);
    out->backward = strcmp(direction, "reverse") == 0;
    if (!both && !out->backward && strcmp(direction, "forward") != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "direction '%.30s' is unknown", direction);
    if (x->rank != 3 || weights->rank != 3 || !is_float(x))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "X, W and R must be floating, of rank 3");
    out->batch_first = we_node_int(call->node, "layout", 0) != 0;
    out->directions = both ? 2 : 1;
    out->gates = gates_of(call->node->op);
    out->steps = x->dims[out->batch_first ? 1 : 0];
    out->batch = x->dims[out->batch_first ? 0 : 1];
    out->inputs = x->dims[2];
    out->hidden = weights->dims[2];
    if (we_node_int(call->node, "hidden_size", out->hidden) != out->hidden)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "hidden_size is not the last dim of R (%lld)",
                            (long long)out->hidden);
    if (call->node->op == WE_OP_LSTM)
        WE_TRY(check_state(call, out, 6));
    WE_TRY(check_state(call, out, 5));
    return check_matrices(call, out);
}

/* ---- Einsum ---- */

/* The number of a letter, or -1. Upper case comes first, as in the order of implicit outputs. */
static int32_t label_of(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? 26 + c - 'a' : -1;
}

/* Read one term up to ',' or '-' or the end. `dots`: dims an ellipsis stands for. */
static we_status read_term(const we_call *call, const char **at, int32_t dots, we_einsum_term *term) {
    const char *c = *at;
    memset(term, 0, sizeof *term);
    for (; *c && *c != ',' && *c != '-'; c++) {
        int32_t label = label_of(*c), count = 1, first = label;
        if (*c == ' ')
            continue;
        if (strncmp(c, "...", 3) == 0) {
            c += 2;
            count = dots;
            first = WE_EINSUM_LABELS - dots;
        } else if (label < 0) {
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the equation has the illegal character '%c'", *c);
        }
        if (count < 0 || term->rank + count > WE_MAX_RANK)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a term of the equation does not fit its tensor");
        for (int32_t i = 0; i < count; i++)
            term->labels[term->rank++] = (uint8_t)(first + i);
    }
    *at = c;
    return WE_OK;
}

/* Dims that the ellipsis of the term at `at` must stand for in a tensor of this rank; 0 where it has none. */
static int32_t dots_of(const char *at, int32_t rank) {
    bool any = false;
    for (; *at && *at != ',' && *at != '-'; at++) {
        any = any || *at == '.';
        rank -= label_of(*at) >= 0;
    }
    return any ? rank : 0;
}

static we_status take_sizes(const we_call *call, we_einsum *e, int32_t operand) {
    const we_tensor *x = call->in[operand];
    const we_einsum_term *term = &e->in[operand];
    if (!x || x->dtype != call->in[0]->dtype || term->rank != x->rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d does not fit its term or the common type",
                            (int)operand);
    for (int32_t i = 0; i < x->rank; i++) {
        int64_t *size = &e->size[term->labels[i]];
        if (*size != -1 && *size != 1 && x->dims[i] != 1 && *size != x->dims[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "one letter stands for both %lld and %lld",
                                (long long)*size, (long long)x->dims[i]);
        if (*size == -1 || *size == 1)
            *size = x->dims[i];
    }
    return WE_OK;
}

/* Without "->": the dims of the ellipsis, then the letters that occur once, in their order. */
static we_status implicit_output(const we_call *call, we_einsum *e, int32_t dots) {
    int32_t times[WE_EINSUM_LABELS] = {0};
    for (int32_t n = 0; n < e->operands; n++) {
        for (int32_t i = 0; i < e->in[n].rank; i++)
            times[e->in[n].labels[i]]++;
    }
    for (int32_t i = 0; i < dots; i++)
        e->out.labels[e->out.rank++] = (uint8_t)(WE_EINSUM_LABELS - dots + i);
    for (int32_t label = 0; label < 52; label++) {
        if (times[label] != 1)
            continue;
        if (e->out.rank == WE_MAX_RANK)
            return WE_CALL_FAIL(call, WE_UNSUPPORTED, "the result has more than %d dims", WE_MAX_RANK);
        e->out.labels[e->out.rank++] = (uint8_t)label;
    }
    return WE_OK;
}

static we_status check_output(const we_call *call, const we_einsum *e) {
    bool seen[WE_EINSUM_LABELS] = {false};
    for (int32_t i = 0; i < e->out.rank; i++) {
        uint8_t label = e->out.labels[i];
        if (e->size[label] == -1 || seen[label])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                                "the output term repeats a letter or has one that no input has");
        seen[label] = true;
    }
    return WE_OK;
}

we_status we_call_einsum(const we_call *call, we_einsum *out) {
    const char *at = we_node_string(call->node, "equation", "");
    int32_t most_dots = 0;
    memset(out, 0, sizeof *out);
    for (int32_t i = 0; i < WE_EINSUM_LABELS; i++)
        out->size[i] = -1;
    out->operands = call->node->input_count;
    if (out->operands > WE_EINSUM_OPERANDS)
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "%d operands; at most %d are supported", (int)out->operands,
                            WE_EINSUM_OPERANDS);
    for (int32_t n = 0; n < out->operands; n++) {
        int32_t dots = call->in[n] ? dots_of(at, call->in[n]->rank) : 0;
        most_dots = dots > most_dots ? dots : most_dots;
        WE_TRY(read_term(call, &at, dots, &out->in[n]));
        if (*at != (n + 1 < out->operands ? ',' : *at == '-' ? '-' : 0))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the equation does not have one term per input (%d)",
                                (int)out->operands);
        at += *at == ',';
        WE_TRY(take_sizes(call, out, n));
    }
    if (*at == 0)
        return implicit_output(call, out, most_dots);
    if (at[1] != '>')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the equation has a '-' without '>'");
    at += 2;
    WE_TRY(read_term(call, &at, most_dots, &out->out));
    if (*at != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the equation has more than one output term");
    return check_output(call, out);
}

/* ---- Losses and training ---- */

we_loss_kind we_loss_reduction(const we_node *node) {
    const char *reduction = we_node_string(node, "reduction", "mean");
    return strcmp(reduction, "none") == 0  ? WE_LOSS_NONE
           : strcmp(reduction, "sum") == 0 ? WE_LOSS_SUM
                                           : WE_LOSS_MEAN;
}

we_status we_call_optimizer(const we_call *call, int32_t *kinds, int32_t *count) {
    *kinds = call->node->op == WE_OP_Adam ? 4 : 3; /* values, gradients, and one or two states */
    int32_t lists = call->node->input_count - 2;
    *count = lists / *kinds;
    if (lists % *kinds || *count < 1 || call->node->output_count > (*kinds - 1) * *count)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%d inputs do not divide into R, T and %d equal lists",
                            (int)call->node->input_count, (int)*kinds);
    if (!call->in[0] || !call->in[1] || call->in[0]->count != 1 || call->in[1]->count != 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "R and T must be scalars");
    for (int32_t i = 2; i < call->node->input_count; i++) {
        const we_tensor *x = call->in[i], *first = call->in[2 + (i - 2) % *count];
        if (!x || x->dtype != call->in[0]->dtype || !is_float(x) || !has_dims(x, first->rank, first->dims))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                                "input %d must have the shape of its value and the type of R", (int)i);
    }
    return WE_OK;
}
