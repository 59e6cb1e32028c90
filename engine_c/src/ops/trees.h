/* Ensembles of trees as models hold them. */
#ifndef WE_OPS_TREES_H
#define WE_OPS_TREES_H

#include "graph/graph.h"
#include "kernels/native.h"

/* Lay out a TreeEnsemble in the arena; INVALID_MODEL for arrays that do not fit each other, branches or
 * targets that do not exist, and walks without an end. `features` becomes the fewest an input may have;
 * `wide` is left. */
we_status we_trees_read(const we_graph *graph, const we_node *node, we_arena *arena, we_trees *out,
                        we_error *err);
/* Do so with every ensemble of a graph and its bodies, to refuse a broken one when its model is loaded. */
we_status we_trees_check(const we_graph *graph, we_error *err);

#endif
