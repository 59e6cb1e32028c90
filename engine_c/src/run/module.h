/* Module mode: a graph that is no single program runs node by node where it must and program by program where
 * it can.
 *
 *   graph ─► [ nodes 0..k: program ] ─► host function ─► [ program ] ─► Loop ─► ... each on values
 * (graph/datum.h) └► its body: a module of its own
 *
 * Where a program ends is found when it is prepared, with the values at hand: at control flow, at a host
 * function, and before any node that no program takes. If that node is the first, what it reads becomes
 * constant for a program of its own: so every shape may depend on data, whatever the operator. Programs are
 * kept by the shapes of what they read (and by the contents of what became constant). */
#ifndef WE_RUN_MODULE_H
#define WE_RUN_MODULE_H

#include <stdatomic.h>

#include "ops/host.h"
#include "run/prepare.h"

typedef struct we_module we_module;

/* One run. Used by one thread. */
typedef struct we_flow {
    const we_settings *settings;
    we_pool *pool;
    we_budget budget;
    we_texts texts;
    int64_t trips;
    _Atomic uint64_t *interrupts; /* the run ends when this is no longer `seen_interrupts` */
    uint64_t seen_interrupts;
    we_error *err;
} we_flow;

/* The values of one graph while it runs; `outer` is that of the graph round it. */
typedef struct we_scope {
    we_module *module;
    const struct we_scope *outer;
    we_datum **values; /* per value of the graph; NULL where not there (yet, or any more) */
} we_scope;

we_status we_module_new(const we_graph *graph, we_module **out, we_error *err);
void we_module_free(we_module *module);
/* Does the graph need module mode whatever the shapes: control flow, host functions, inputs that are no typed
 * tensors? */
bool we_module_is_dynamic(const we_module *module);
/* Fills `outputs`, in the graph's order, on success; all are NULL otherwise. */
we_status we_module_run(we_module *module, we_flow *flow, we_datum *const *inputs, we_datum **outputs);
/* The programs kept as JSON; freed with we_memory_free. */
we_status we_module_explain(we_module *module, const we_settings *settings, char **out, we_error *err);

/* ---- For control flow ---- */

/* The body that a node of the scope's graph holds, or INVALID_MODEL. */
we_status we_scope_body(const we_scope *scope, we_flow *flow, size_t node, const char *name, we_module **out);
const we_graph *we_module_graph(const we_module *module);
we_status we_body_run(we_module *body, we_flow *flow, const we_scope *outer, we_datum *const *inputs,
                      we_datum **outputs);
/* Count one pass of a loop; fails past the session's limit and where the run is interrupted. */
we_status we_flow_trip(we_flow *flow);

typedef we_status (*we_control_fn)(we_flow *flow, const we_scope *scope, size_t node, we_datum *const *in,
                                   we_datum **out);
/* What runs a control operator; NULL for any other. */
we_control_fn we_control_find(int32_t op);

#endif
