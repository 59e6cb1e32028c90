/* A verified graph: values and nodes by index, nodes in topological order, everything in one arena.
 * Immutable. */
#ifndef WE_GRAPH_GRAPH_H
#define WE_GRAPH_GRAPH_H

#include <stdbool.h>

#include <walle/engine.h>

#include "base/memory.h"
#include "base/names.h"

typedef enum we_value_kind {
    WE_VALUE_UNDEFINED, /* used, not yet defined; never in a verified graph */
    WE_VALUE_INPUT,
    WE_VALUE_WEIGHT,
    WE_VALUE_NODE,  /* written by a node */
    WE_VALUE_OUTER, /* of a body: written by the graph round it */
} we_value_kind;

typedef struct we_value {
    const char *name;
    we_value_kind kind;
    we_io_kind io;
    bool typed; /* dtype, rank and dims are stated and hold; always so for weights */
    bool hint;  /* dtype, rank and dims are what a body's output is said to be */
    we_dtype dtype;
    int32_t rank;
    int64_t dims[WE_MAX_RANK];        /* -1 where symbolic */
    const char *symbols[WE_MAX_RANK]; /* NULL where the dim is a number */
    const void *data;                 /* weights: borrowed or in the arena; WE_ALIGNMENT is not promised */
} we_value;

typedef struct we_graph we_graph;

typedef struct we_node {
    int32_t op;
    const char *name;
    int32_t input_count, output_count;
    const int32_t *inputs, *outputs; /* value indices, -1 where omitted */
    const we_attr *attrs;
    size_t attr_count;
    we_graph **bodies;       /* per attribute; NULL where it is no graph; NULL where none is */
    const int32_t *captures; /* values of this graph that the bodies read */
    int32_t capture_count;
} we_node;

/* A name a body does not define: its value there and in the graph round it. */
typedef struct we_capture {
    int32_t inner, outer;
} we_capture;

enum {
    WE_MAX_NESTING = 16, /* graphs inside each other */
};

struct we_graph {
    we_arena arena;
    const char *name;
    we_value *values;
    we_node *nodes;
    int32_t *inputs, *outputs; /* value indices */
    size_t value_count, node_count, input_count, output_count;
    size_t value_room, node_room, input_room, output_room;
    we_names names; /* value name to index */
    we_capture *captures;
    size_t capture_count;
    int32_t nesting; /* levels of bodies inside this graph */
};

void we_graph_free(we_graph *graph);

/* The body held by the attribute of that name, or NULL. */
we_graph *we_node_body(const we_node *node, const char *name);
/* Attribute by name, or the default. The verifier has checked kinds. */
const we_attr *we_node_attr(const we_node *node, const char *name);
int64_t we_node_int(const we_node *node, const char *name, int64_t fallback);
double we_node_float(const we_node *node, const char *name, double fallback);
const char *we_node_string(const we_node *node, const char *name, const char *fallback);

/* Builder steps that only the loader needs. Both take over nothing: strings are copied, `data` is borrowed.
 */
we_status we_builder_weight_borrowed(we_builder *builder, const char *name, const we_view *value,
                                     we_error *err);
we_status we_builder_output_typed(we_builder *builder, const char *name, we_dtype dtype, int32_t rank,
                                  const int64_t *dims, const char *const *symbols, we_error *err);
/* An output of a kind or a type that is stated in part: the type only matters where a body never runs. */
we_status we_builder_output_hint(we_builder *builder, const char *name, we_io_kind kind, we_dtype dtype,
                                 int32_t rank, const int64_t *dims, we_error *err);
/* Verify, order, and move the graph out of the builder. On failure *out is untouched. */
we_status we_builder_seal(we_builder *builder, we_graph *out, we_error *err);

/* Every rule a graph must keep, checked in one place; sorts the nodes. */
we_status we_graph_verify(we_graph *graph, we_error *err);

#endif
