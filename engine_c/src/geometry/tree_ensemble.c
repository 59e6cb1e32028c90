/* The rule of TreeEnsemble: one native kernel. */
#include "base/error.h"
#include "geometry/lower.h"
#include "ops/trees.h"

void we_rule_tree_ensemble(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_trees trees;
    l->status = we_trees_read(l->call.graph, l->call.node, &l->program->arena, &trees, l->call.err);
    if (l->status == WE_OK && trees.features > x->dims[x->rank - 1])
        we_lower_fail(l, WE_INVALID_MODEL, "nodes_featureids names a feature that the input does not have");
    if (l->status != WE_OK)
        return;
    trees.features = x->dims[x->rank - 1];
    trees.wide = x->dtype == WE_F64;
    int32_t in[3] = {l->in[0], -1, -1}, made = l->out[0];
    if (!trees.wide && x->dtype != WE_F32)
        in[0] = we_emit_cast(l, l->in[0], WE_F32, WE_NEW);
    if (out.dtype != WE_F64)
        made = we_lower_temp(l, WE_F64, out.rank, out.dims);
    we_emit_native(l, &we_native_trees, &trees, sizeof trees, out.dims[0], 16.0 * (double)trees.trees, in,
                   made);
    if (made != l->out[0])
        we_emit_cast(l, made, out.dtype, l->out[0]);
}
