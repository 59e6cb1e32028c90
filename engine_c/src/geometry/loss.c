/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss over x [N, C, ...] and class numbers [N, ...].
 *
 * chosen[n, c, ...] = (target[n, ...] == c) and target is not ignored; the loss of a place is minus the sum
 * over c of weight[c] * x where chosen. A class number outside the classes chooses nothing, and reads
 * nothing. */
#include "geometry/parts.h"
#include "ops/sequence.h"

static const bool CLASSES[WE_MAX_RANK] = {false, true};

/* BOOL of x's shape. */
static int32_t chosen_of(we_lower *l, const we_tensor *x) {
    int64_t dims[WE_MAX_RANK] = {x->dims[0], 1}, classes[WE_MAX_RANK] = {x->dims[1], 1, 1, 1, 1, 1, 1, 1};
    for (int32_t i = 2; i < x->rank; i++)
        dims[i] = x->dims[i];
    int32_t wanted = we_emit_reshape(l, we_emit_as(l, l->in[1], WE_I64), x->rank, dims, WE_NEW);
    int32_t numbers = we_emit_range(l, 0, x->rank - 1, classes);
    int32_t chosen = we_emit_binary(l, WE_BINARY_Equal, numbers, wanted, WE_NEW);
    if (!we_node_attr(l->call.node, "ignore_index"))
        return chosen;
    void *data;
    int32_t ignored = we_lower_constant(l, WE_I64, 0, NULL, &data);
    if (data)
        *(int64_t *)data = we_node_int(l->call.node, "ignore_index", 0);
    int32_t same = we_emit_binary(l, WE_BINARY_Equal, wanted, ignored, WE_NEW);
    int32_t differs = we_emit_binary(l, WE_BINARY_Equal, same, we_lower_scalar(l, WE_BOOL, 0), WE_NEW);
    return we_emit_binary(l, WE_BINARY_And, chosen, differs, WE_NEW);
}

/* The sum over c of value where chosen: [N, 1, ...]. */
static int32_t pick(we_lower *l, int32_t chosen, int32_t value) {
    int32_t zero = we_lower_scalar(l, we_lower_tensor(l, value).dtype, 0);
    int32_t picked = we_emit_select(l, chosen, value, zero, WE_NEW);
    return we_emit_reduce(l, WE_REDUCE_Sum, picked, CLASSES, WE_NEW);
}

/* What each place counts for: [N, 1, ...]. */
static int32_t counts_of(we_lower *l, const we_tensor *x, int32_t chosen, we_dtype dtype) {
    if (!we_call_input(&l->call, 2)) {
        int32_t one = we_lower_scalar(l, dtype, 1);
        return pick(l, chosen, one);
    }
    int64_t classes[WE_MAX_RANK] = {x->dims[1], 1, 1, 1, 1, 1, 1, 1};
    int32_t weight = we_emit_as(l, l->in[2], dtype);
    return pick(l, chosen, we_emit_reshape(l, weight, x->rank - 1, classes, WE_NEW));
}

static void reduce_loss(we_lower *l, int32_t loss, int32_t counts, int32_t into) {
    const bool all[WE_MAX_RANK] = {true, true, true, true, true, true, true, true};
    const we_tensor *x = l->call.in[0];
    bool mean = we_loss_reduction(l->call.node) == WE_LOSS_MEAN;
    if (we_loss_reduction(l->call.node) == WE_LOSS_NONE) {
        we_emit_store(l, loss, into);
        return;
    }
    if (mean && counts < 0) { /* every place counts for 1 */
        int64_t places = x->dims[1] ? x->count / x->dims[1] : 0;
        int32_t sum = we_emit_reduce(l, WE_REDUCE_Sum, loss, all, WE_NEW);
        we_emit_store(l, we_emit_times(l, sum, 1.0 / (double)places, WE_NEW), into);
        return;
    }
    int32_t sum = we_emit_reduce(l, WE_REDUCE_Sum, loss, all, WE_NEW);
    if (mean) {
        int32_t total = we_emit_reduce(l, WE_REDUCE_Sum, counts, all, WE_NEW);
        sum = we_emit_binary(l, WE_BINARY_Div, sum, total, WE_NEW);
    }
    we_emit_store(l, sum, into);
}

static void likelihood(we_lower *l, int32_t x) {
    we_tensor scores = we_lower_tensor(l, x);
    bool weighed = we_call_input(&l->call, 2) || we_node_attr(l->call.node, "ignore_index");
    int32_t chosen = chosen_of(l, &scores);
    int32_t loss = we_emit_unary(l, WE_UNARY_Neg, pick(l, chosen, x), WE_NEW);
    int32_t counts = weighed ? counts_of(l, &scores, chosen, scores.dtype) : -1;
    if (we_call_input(&l->call, 2))
        loss = we_emit_binary(l, WE_BINARY_Mul, loss, counts, WE_NEW);
    reduce_loss(l, loss, counts, l->out[0]);
}

void we_rule_negative_log_likelihood(we_lower *l) {
    likelihood(l, we_emit_wide(l, l->in[0]));
}

void we_rule_softmax_cross_entropy(we_lower *l) {
    int32_t x = we_emit_wide(l, l->in[0]);
    if (l->call.in[0]->count != 0)
        x = we_emit_log_softmax(l, x, 1, WE_NEW);
    likelihood(l, x);
    if (l->call.node->output_count > 1)
        we_emit_store(l, x, l->out[1]);
}
