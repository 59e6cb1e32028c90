/* Ensembles of decision trees. Some rows walk down a tree side by side, so that the loads of one hide behind
 * those of the others; a row that has arrived treads on the spot until all have. */
#include <math.h>

#include "kernels/native.h"

enum {
    LANES = 8, /* rows side by side; of 4, 8 and 16 never far behind the best (Zen 5, 100 to 200 trees,
                  2026-11) */
};

static bool is_member(const double *set, double x) {
    for (; !isnan(*set); set++) {
        if (*set == x)
            return true;
    }
    return false;
}

static bool holds(const we_trees *p, const we_tree_node *node, double x) {
    if (node->missing_true && isnan(x))
        return true;
    switch ((we_tree_mode)node->mode) {
    case WE_TREE_LEQ:
        return x <= node->split;
    case WE_TREE_LT:
        return x < node->split;
    case WE_TREE_GTE:
        return x >= node->split;
    case WE_TREE_GT:
        return x > node->split;
    case WE_TREE_EQ:
        return x == node->split;
    case WE_TREE_NEQ:
        return x != node->split;
    default:
        return is_member(p->members + (int64_t)node->split, x);
    }
}

static inline double value_at(const void *x, bool wide, int64_t i) {
    return wide ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* Take rows [row, row + count) from the root to their leaves. The flags are constants where this is inlined.
 */
static inline __attribute__((always_inline)) void descend(const we_trees *p, bool wide, bool less_equal,
                                                          const void *x, int64_t row, int32_t count,
                                                          int32_t root, int32_t *at) {
    int32_t lowest = root;
    for (int32_t i = 0; i < count; i++)
        at[i] = root;
    while (lowest < p->inner) {
        lowest = INT32_MAX;
        for (int32_t i = 0; i < count; i++) {
            const we_tree_node *node = &p->nodes[at[i]];
            double value = value_at(x, wide, (row + i) * p->features + node->feature);
            at[i] = node->child[less_equal ? !(value <= node->split) : !holds(p, node, value)];
            lowest = at[i] < lowest ? at[i] : lowest;
        }
    }
}

static void walk(const we_trees *p, const void *x, int64_t row, int32_t count, int32_t root, int32_t *at) {
    if (!p->less_equal)
        descend(p, p->wide, false, x, row, count, root, at);
    else if (p->wide)
        descend(p, true, true, x, row, count, root, at);
    else if (count == LANES)
        descend(p, false, true, x, row, LANES, root, at);
    else
        descend(p, false, true, x, row, count, root, at);
}

/* Until a target has a vote it is NaN where votes are compared, 0 where they are added. */
static void vote(const we_trees *p, int32_t leaf, double *to) {
    for (int32_t v = p->first_vote[leaf]; v < p->first_vote[leaf + 1]; v++) {
        double weight = p->votes[v].weight, *sum = &to[p->votes[v].target];
        if (p->aggregate == WE_TREE_MIN)
            *sum = *sum <= weight ? *sum : weight;
        else if (p->aggregate == WE_TREE_MAX)
            *sum = *sum >= weight ? *sum : weight;
        else
            *sum += weight;
    }
}

static void start(const we_trees *p, int64_t cells, double *out) {
    bool compared = p->aggregate == WE_TREE_MIN || p->aggregate == WE_TREE_MAX;
    for (int64_t i = 0; i < cells; i++)
        out[i] = compared ? NAN : 0;
}

static void finish(const we_trees *p, int64_t cells, double *out) {
    for (int64_t i = 0; i < cells; i++) {
        if (p->aggregate == WE_TREE_AVERAGE)
            out[i] /= (double)p->trees;
        else if (isnan(out[i]))
            out[i] = 0;
    }
}

static const char *trees(const void *parameters, const void *const *in, void *out, int64_t begin,
                         int64_t end) {
    const we_trees *p = parameters;
    int32_t at[LANES];
    for (int64_t row = begin; row < end; row += LANES) {
        int32_t count = end - row < LANES ? (int32_t)(end - row) : LANES;
        double *to = (double *)out + row * p->targets;
        start(p, count * p->targets, to);
        for (int64_t tree = 0; tree < p->trees; tree++) {
            walk(p, in[0], row, count, p->roots[tree], at);
            for (int32_t i = 0; i < count; i++)
                vote(p, at[i] - p->inner, to + i * p->targets);
        }
        finish(p, count * p->targets, to);
    }
    return NULL;
}

const we_native we_native_trees = {"trees", trees};
