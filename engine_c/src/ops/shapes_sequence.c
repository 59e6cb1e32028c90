/* Shape functions of normalisation, attention, recurrence, Einsum, losses and training. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/sequence.h"
#include "ops/shapes.h"

static void set(we_tensor *out, we_dtype dtype, int32_t rank, const int64_t *dims) {
    out->dtype = dtype;
    out->rank = rank;
    if (rank)
        memmove(out->dims, dims, (size_t)rank * sizeof *dims);
}

static void set_like(we_tensor *out, const we_tensor *x) {
    set(out, x->dtype, x->rank, x->dims);
}

static we_status require_float(const we_call *call) {
    if (we_dtype_kind(call->in[0]->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a floating input is required");
    return WE_OK;
}

/* A second input must broadcast to the first without enlarging it. */
static we_status require_fits(const we_call *call, int32_t index) {
    const we_tensor *x = call->in[0], *other = we_call_input(call, index);
    int64_t joined[WE_MAX_RANK];
    int32_t rank;
    if (other && (!we_broadcast(x->rank, x->dims, other->rank, other->dims, &rank, joined) ||
                  rank != x->rank || memcmp(joined, x->dims, (size_t)rank * sizeof *joined) != 0))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d does not broadcast to the first", (int)index);
    return WE_OK;
}

/* ---- Normalisation ---- */

we_status we_shape_batch_norm(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    bool training = we_node_int(call->node, "training_mode", 0) != 0;
    WE_TRY(require_float(call));
    if (x->rank < 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rank 1 or more is required");
    for (int32_t i = 1; i < 5; i++) {
        const we_tensor *given = call->in[i];
        if (given->rank != 1 || given->dims[0] != (x->rank > 1 ? x->dims[1] : 1) ||
            we_dtype_kind(given->dtype) != 'f')
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "each parameter must have one entry per channel");
    }
    if (call->node->output_count > 1 && !training)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the statistics are outputs only with training_mode 1");
    set_like(&out[0], x);
    for (int32_t i = 1; i < call->node->output_count; i++)
        set_like(&out[i], call->in[2 + i]);
    return WE_OK;
}

we_status we_shape_layer_norm(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    int32_t axis = 0;
    WE_TRY(require_float(call));
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", -1), x->rank, &axis));
    WE_TRY(require_fits(call, 1));
    WE_TRY(require_fits(call, 2));
    set_like(&out[0], x);
    for (int32_t i = 1; i < call->node->output_count; i++) {
        set_like(&out[i], x);
        out[i].dtype = WE_F32; /* what stash_type 1 says, the only value there is */
        for (int32_t d = axis; d < x->rank; d++)
            out[i].dims[d] = 1;
    }
    return WE_OK;
}

we_status we_shape_rms_norm(const we_call *call, we_tensor *out) {
    int32_t axis = 0;
    WE_TRY(require_float(call));
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", -1), call->in[0]->rank, &axis));
    WE_TRY(require_fits(call, 1));
    set_like(out, call->in[0]);
    out->dtype = call->in[1]->dtype;
    return WE_OK;
}

we_status we_shape_group_norm(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    WE_TRY(require_float(call));
    if (x->rank < 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rank 2 or more is required");
    int64_t groups = we_node_int(call->node, "num_groups", x->dims[1]);
    if (groups < 1 || x->dims[1] % groups)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld channels do not divide into %lld groups",
                            (long long)x->dims[1], (long long)groups);
    for (int32_t i = 1; i < 3; i++) {
        if (call->in[i]->rank != 1 || call->in[i]->dims[0] != x->dims[1])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "scale and bias must have one entry per channel");
    }
    set_like(out, x);
    return WE_OK;
}

we_status we_shape_float(const we_call *call, we_tensor *out) {
    WE_TRY(require_float(call));
    set_like(out, call->in[0]);
    return WE_OK;
}

we_status we_shape_swiglu(const we_call *call, we_tensor *out) {
    const we_tensor *a = call->in[0], *b = call->in[1];
    WE_TRY(require_float(call));
    if (a->dtype != b->dtype || a->rank != b->rank ||
        memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "both inputs must have one shape and type");
    set_like(out, a);
    return WE_OK;
}

/* ---- Attention ---- */

we_status we_shape_attention(const we_call *call, we_tensor *out) {
    we_attention a;
    WE_TRY(we_call_attention(call, &a));
    int64_t total = a.past + a.keys;
    int64_t packed[3] = {a.batch, a.queries, 0}, plain[4] = {a.batch, a.heads, a.queries, a.value_size};
    int64_t key[4] = {a.batch, a.shared_heads, total, a.size};
    int64_t value[4] = {a.batch, a.shared_heads, total, a.value_size};
    int64_t scores[4] = {a.batch, a.heads, a.queries, total};
    if (__builtin_mul_overflow(a.heads, a.value_size, &packed[2]))
        return WE_CALL_FAIL(call, WE_OUT_OF_MEMORY, "the result would be absurdly large");
    set(&out[0], call->in[0]->dtype, a.packed ? 3 : 4, a.packed ? packed : plain);
    if (call->node->output_count > 1)
        set(&out[1], call->in[1]->dtype, 4, key);
    if (call->node->output_count > 2)
        set(&out[2], call->in[2]->dtype, 4, value);
    if (call->node->output_count > 3)
        set(&out[3], call->in[0]->dtype, 4, scores);
    return WE_OK;
}

we_status we_shape_linear_attention(const we_call *call, we_tensor *out) {
    we_linear_attention a;
    const we_tensor *state = we_call_input(call, 3);
    WE_TRY(we_call_linear_attention(call, &a));
    int64_t dims[3] = {a.batch, a.steps, 0}, states[4] = {a.batch, a.shared_heads, a.key_size, a.value_size};
    if (__builtin_mul_overflow(a.heads, a.value_size, &dims[2]))
        return WE_CALL_FAIL(call, WE_OUT_OF_MEMORY, "the result would be absurdly large");
    set(&out[0], call->in[0]->dtype, 3, dims);
    if (call->node->output_count > 1)
        set(&out[1], state ? state->dtype : call->in[0]->dtype, 4, states);
    return WE_OK;
}

we_status we_shape_rotary(const we_call *call, we_tensor *out) {
    we_rotary r;
    WE_TRY(we_call_rotary(call, &r));
    set_like(out, call->in[0]);
    return WE_OK;
}

/* ---- Recurrence ---- */

we_status we_shape_recurrence(const we_call *call, we_tensor *out) {
    we_recurrence r;
    WE_TRY(we_call_recurrence(call, &r));
    int64_t all[4] = {r.steps, r.directions, r.batch, r.hidden}, last[3] = {r.directions, r.batch, r.hidden};
    if (r.batch_first) {
        memcpy(all, (int64_t[]){r.batch, r.steps, r.directions, r.hidden}, sizeof all);
        memcpy(last, (int64_t[]){r.batch, r.directions, r.hidden}, sizeof last);
    }
    set(&out[0], call->in[0]->dtype, 4, all);
    for (int32_t i = 1; i < call->node->output_count; i++)
        set(&out[i], call->in[0]->dtype, 3, last);
    return WE_OK;
}

/* ---- Einsum, losses, training ---- */

we_status we_shape_einsum(const we_call *call, we_tensor *out) {
    we_einsum e;
    WE_TRY(we_call_einsum(call, &e));
    out->dtype = call->in[0]->dtype;
    out->rank = e.out.rank;
    for (int32_t i = 0; i < e.out.rank; i++)
        out->dims[i] = e.size[e.out.labels[i]];
    return WE_OK;
}

static we_status check_loss(const we_call *call) {
    const we_tensor *x = call->in[0], *target = call->in[1], *weight = we_call_input(call, 2);
    const char *reduction = we_node_string(call->node, "reduction", "mean");
    WE_TRY(require_float(call));
    if (strcmp(reduction, "none") != 0 && strcmp(reduction, "sum") != 0 && strcmp(reduction, "mean") != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "reduction '%.30s' is unknown", reduction);
    bool fits = x->rank >= 2 && target->rank == x->rank - 1 && target->dims[0] == x->dims[0];
    for (int32_t i = 1; fits && i < target->rank; i++)
        fits = target->dims[i] == x->dims[i + 1];
    if (!fits || (target->dtype != WE_I64 && target->dtype != WE_I32))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the target must hold integers in the shape of the input without its second dim");
    if (weight && (weight->rank != 1 || weight->dims[0] != x->dims[1] || weight->dtype != x->dtype))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the weight must have one entry per class");
    return WE_OK;
}

we_status we_shape_loss(const we_call *call, we_tensor *out) {
    const we_tensor *target = call->in[1];
    WE_TRY(check_loss(call));
    set(&out[0], call->in[0]->dtype, we_loss_reduction(call->node) == WE_LOSS_NONE ? target->rank : 0,
        target->dims);
    if (call->node->output_count > 1)
        set_like(&out[1], call->in[0]);
    return WE_OK;
}

we_status we_shape_optimizer(const we_call *call, we_tensor *out) {
    int32_t kinds, count;
    WE_TRY(we_call_optimizer(call, &kinds, &count));
    for (int32_t i = 0; i < call->node->output_count; i++)
        set_like(&out[i], call->in[2 + i % count]);
    return WE_OK;
}

we_status we_shape_gradient(const we_call *call, we_tensor *out) {
    int32_t chosen = call->node->input_count - 1;
    const we_tensor *loss = call->in[chosen];
    if (call->node->output_count != chosen)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "there must be an output for every input but the loss");
    if (!loss || loss->count != 1 || we_dtype_kind(loss->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the last input must be the loss, one number of a float type");
    for (int32_t i = 0; i < chosen; i++) {
        if (!call->in[i] || we_dtype_kind(call->in[i]->dtype) != 'f')
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d has no float type to differentiate by",
                                (int)i);
        if (call->in[i]->kind == WE_TENSOR_CONST)
            return WE_CALL_FAIL(
                call, WE_INVALID_MODEL,
                "input %d is a constant: make what is differentiated by an input of the graph", (int)i);
        set_like(&out[i], call->in[i]);
    }
    return WE_OK;
}
