/* TreeEnsemble: its arrays are checked and laid out for the native kernel. They are weights that the
 * attributes name, as lists are too long for text. */
#include "ops/trees.h"

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/ops.h"

typedef struct ensemble {
    we_tensor splits, modes, features, yes, no, yes_leaf, no_leaf, missing; /* per node */
    we_tensor roots, members, targets, weights, sizes;                      /* of trees, sets and leaves */
    int64_t nodes, leaves, votes, trees;
} ensemble;

/* The status is that of the first thing wrong. */
typedef struct reader {
    const we_graph *graph;
    const we_node *node;
    we_arena *arena;
    we_status status;
    we_error *err;
} reader;

static void wrong(reader *r, const char *message) {
    if (r->status == WE_OK)
        r->status =
            we_error_set_at(r->err, WE_INVALID_MODEL, we_op_name(r->node->op), r->node->name, "%s", message);
}

static void *room(reader *r, int64_t count, size_t size) {
    void *made = r->status == WE_OK ? we_arena_new(r->arena, (size_t)(count + 1) * size) : NULL;
    if (!made && r->status == WE_OK)
        r->status = we_error_no_memory(r->err);
    return made;
}

/* The weight an attribute names, of `count` elements (-1: of any); empty where the attribute is absent. */
static we_tensor array_of(reader *r, const char *name, int64_t count) {
    const we_attr *attr = we_node_attr(r->node, name);
    we_tensor array = {.dtype = WE_I64};
    if (!attr || r->status != WE_OK)
        return array;
    const we_value *value = &r->graph->values[we_names_find(&r->graph->names, attr->string)];
    array.dtype = value->dtype;
    array.data = value->data;
    if (!we_shape_count(value->rank, value->dims, value->dtype, &array.count) || array.count > INT32_MAX / 2)
        wrong(r, "an ensemble of more than 2^30 nodes or leaves");
    else if (count >= 0 && array.count != count)
        wrong(r, "the attributes of nodes, or those of leaves, have different lengths");
    return array;
}

static void read_arrays(reader *r, ensemble *e) {
    e->features = array_of(r, "nodes_featureids", -1);
    e->nodes = e->features.count;
    e->splits = array_of(r, "nodes_splits", e->nodes);
    e->modes = array_of(r, "nodes_modes", e->nodes);
    e->yes = array_of(r, "nodes_truenodeids", e->nodes);
    e->no = array_of(r, "nodes_falsenodeids", e->nodes);
    e->yes_leaf = array_of(r, "nodes_trueleafs", e->nodes);
    e->no_leaf = array_of(r, "nodes_falseleafs", e->nodes);
    e->missing = array_of(r, "nodes_missing_value_tracks_true", -1);
    e->roots = array_of(r, "tree_roots", -1);
    e->trees = e->roots.count;
    e->members = array_of(r, "membership_values", -1);
    e->weights = array_of(r, "leaf_weights", -1);
    e->votes = e->weights.count;
    e->targets = array_of(r, "leaf_targetids", e->votes);
    e->sizes = array_of(r, "leaf_sizes", -1);
    e->leaves = e->sizes.data ? e->sizes.count : e->votes;
    if (e->missing.count && e->missing.count != e->nodes)
        wrong(r, "nodes_missing_value_tracks_true must have an entry per node, or none");
    if (e->splits.count != e->nodes || e->modes.count != e->nodes || e->yes.count != e->nodes ||
        e->no.count != e->nodes || e->yes_leaf.count != e->nodes || e->no_leaf.count != e->nodes ||
        e->targets.count != e->votes)
        wrong(r, "an attribute of the nodes or the leaves is missing");
}

/* ---- Leaves ---- */

static int32_t *read_leaves(reader *r, const ensemble *e) {
    int32_t *first = room(r, e->leaves, sizeof *first);
    int64_t votes = 0;
    if (!first)
        return NULL;
    for (int64_t i = 0; i < e->leaves; i++) {
        int64_t size = e->sizes.data ? we_tensor_integer(&e->sizes, i) : 1;
        if (size < 0 || size > e->votes - votes) {
            wrong(r, "leaf_sizes does not fit leaf_weights");
            return NULL;
        }
        first[i] = (int32_t)votes;
        votes += size;
    }
    first[e->leaves] = (int32_t)votes;
    if (votes != e->votes)
        wrong(r, "leaf_sizes does not fit leaf_weights");
    return first;
}

static we_tree_vote *read_votes(reader *r, const ensemble *e, int64_t targets) {
    we_tree_vote *votes = room(r, e->votes, sizeof *votes);
    if (!votes)
        return NULL;
    for (int64_t i = 0; i < e->votes; i++) {
        int64_t target = we_tensor_integer(&e->targets, i);
        if (target < 0 || target >= targets) {
            wrong(r, "leaf_targetids names a target outside n_targets");
            return NULL;
        }
        votes[i] = (we_tree_vote){(int32_t)target, we_tensor_number(&e->weights, i)};
    }
    return votes;
}

/* ---- Nodes ---- */

/* The node a branch leads to, leaves counted on behind the nodes; -1 where there is none. */
static int32_t branch(const ensemble *e, const we_tensor *ids, const we_tensor *leafs, int64_t i) {
    int64_t id = we_tensor_integer(ids, i);
    bool leaf = we_tensor_integer(leafs, i) != 0;
    if (id < 0 || id >= (leaf ? e->leaves : e->nodes))
        return -1;
    return (int32_t)(leaf ? e->nodes + id : id);
}

/* Where the set after the one that begins at `at` begins; past the end where this one is not ended. */
static int64_t set_after(const ensemble *e, int64_t at) {
    while (at < e->members.count && !isnan(we_tensor_number(&e->members, at)))
        at++;
    return at + 1;
}

static void read_node(reader *r, const ensemble *e, int64_t i, int64_t *set, we_tree_node *to) {
    int64_t mode = we_tensor_integer(&e->modes, i), feature = we_tensor_integer(&e->features, i);
    *to = (we_tree_node){.split = we_tensor_number(&e->splits, i),
                         .mode = (uint8_t)mode,
                         .feature = (uint32_t)feature,
                         .missing_true = e->missing.count && we_tensor_integer(&e->missing, i) != 0,
                         .child = {branch(e, &e->yes, &e->yes_leaf, i), branch(e, &e->no, &e->no_leaf, i)}};
    if (to->child[0] < 0 || to->child[1] < 0)
        wrong(r, "a branch leads to a node or a leaf that does not exist");
    if (feature < 0 || feature > INT32_MAX)
        wrong(r, "nodes_featureids names a feature that no input has");
    if (mode < 0 || mode >= WE_TREE_MODES)
        wrong(r, "nodes_modes must be 0 to 6");
    if (mode == WE_TREE_MEMBER) {
        to->split = (double)*set;
        *set = set_after(e, *set);
        if (*set > e->members.count)
            wrong(r, "membership_values must hold a set, ended by NaN, per BRANCH_MEMBER node");
    }
}

static we_tree_node *read_nodes(reader *r, const ensemble *e) {
    we_tree_node *nodes = room(r, e->nodes + e->leaves, sizeof *nodes);
    int64_t set = 0;
    if (!nodes)
        return NULL;
    for (int64_t i = 0; i < e->nodes && r->status == WE_OK; i++)
        read_node(r, e, i, &set, &nodes[i]);
    for (int64_t i = 0; i < e->leaves; i++) {
        int32_t self = (int32_t)(e->nodes + i);
        nodes[self].child[0] = nodes[self].child[1] = self;
    }
    return nodes;
}

static double *read_members(reader *r, const ensemble *e) {
    double *members = room(r, e->members.count, sizeof *members);
    if (!members)
        return NULL;
    for (int64_t i = 0; i < e->members.count; i++)
        members[i] = we_tensor_number(&e->members, i);
    return members;
}

static int32_t *read_roots(reader *r, const ensemble *e) {
    int32_t *roots = room(r, e->trees, sizeof *roots);
    if (!roots)
        return NULL;
    for (int64_t i = 0; i < e->trees; i++) {
        int64_t root = we_tensor_integer(&e->roots, i);
        if (root < 0 || root >= e->nodes) {
            wrong(r, "tree_roots names a node that does not exist");
            return NULL;
        }
        roots[i] = (int32_t)root;
    }
    return roots;
}

/* ---- A walk must end: no node may be its own descendant. Branches may meet again ---- */

enum { UNSEEN = 0, OPEN = 1, DONE = 2 };

/* Depth first from each root with a stack of its own. A node is OPEN while its descendants are looked at. */
static bool has_cycle(const we_trees *trees, uint8_t *state, int32_t *stack) {
    for (int64_t r = 0; r < trees->trees; r++) {
        int32_t depth = 0;
        if (state[trees->roots[r]] == UNSEEN)
            stack[depth++] = trees->roots[r];
        while (depth > 0) {
            int32_t node = stack[depth - 1], next = -1;
            state[node] = OPEN;
            for (int32_t c = 0; c < 2 && next < 0; c++) {
                int32_t child = trees->nodes[node].child[c];
                if (child < trees->inner && state[child] == OPEN)
                    return true;
                next = child < trees->inner && state[child] == UNSEEN ? child : -1;
            }
            if (next >= 0) {
                stack[depth++] = next;
            } else {
                state[node] = DONE;
                depth--;
            }
        }
    }
    return false;
}

static void refuse_cycles(reader *r, const we_trees *trees) {
    uint8_t *state = we_memory_new((size_t)trees->inner + 1);
    int32_t *stack = we_memory_new_dirty(((size_t)trees->inner + 1) * sizeof *stack);
    if (!state || !stack)
        r->status = we_error_no_memory(r->err);
    else if (has_cycle(trees, state, stack))
        wrong(r, "a branch leads back to a node above it");
    we_memory_free(state);
    we_memory_free(stack);
}

static bool is_less_equal(const we_trees *trees) {
    for (int32_t i = 0; i < trees->inner; i++) {
        if (trees->nodes[i].mode != WE_TREE_LEQ || trees->nodes[i].missing_true)
            return false;
    }
    return true;
}

static void count_features(we_trees *trees) {
    for (int32_t i = 0; i < trees->inner; i++) {
        if (trees->nodes[i].feature >= trees->features)
            trees->features = (int64_t)trees->nodes[i].feature + 1;
    }
}

we_status we_trees_read(const we_graph *graph, const we_node *node, we_arena *arena, we_trees *out,
                        we_error *err) {
    reader r = {graph, node, arena, WE_OK, err};
    int64_t aggregate = we_node_int(node, "aggregate_function", WE_TREE_SUM);
    ensemble e = {0};
    *out = (we_trees){.targets = we_node_int(node, "n_targets", 1)};
    if (out->targets < 1 || out->targets > INT32_MAX)
        wrong(&r, "attribute 'n_targets' must be 1 or more");
    if (aggregate < 0 || aggregate >= WE_TREE_AGGREGATES)
        wrong(&r, "attribute 'aggregate_function' must be 0 to 3");
    read_arrays(&r, &e);
    out->aggregate = (we_tree_aggregate)aggregate;
    out->inner = (int32_t)e.nodes;
    out->trees = e.trees;
    out->first_vote = read_leaves(&r, &e);
    out->votes = read_votes(&r, &e, out->targets);
    out->nodes = read_nodes(&r, &e);
    out->members = read_members(&r, &e);
    out->roots = read_roots(&r, &e);
    if (r.status == WE_OK)
        refuse_cycles(&r, out);
    if (r.status != WE_OK)
        return r.status;
    out->less_equal = is_less_equal(out);
    count_features(out);
    return WE_OK;
}

we_status we_trees_check(const we_graph *graph, we_error *err) {
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        we_status status = WE_OK;
        we_arena arena = {0};
        we_trees trees;
        if (node->op == WE_OP_TreeEnsemble)
            status = we_trees_read(graph, node, &arena, &trees, err);
        we_arena_free(&arena);
        for (size_t i = 0; node->bodies && i < node->attr_count && status == WE_OK; i++)
            status = node->bodies[i] ? we_trees_check(node->bodies[i], err) : WE_OK;
        WE_TRY(status);
    }
    return WE_OK;
}
