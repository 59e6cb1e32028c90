/* Layers of a quantised model, given as DequantizeLinear -> operator -> QuantizeLinear, as single operators
 * on bytes. Their sums are exact, where those of float32 are rounded on the way; so a result may differ by
 * one quantum where it lies between two. A layer is taken only where that costs less than its parts. */
#ifndef WE_RUN_QUANTISED_H
#define WE_RUN_QUANTISED_H

#include "ops/ops.h"

enum {
    WE_LAYER_PARTS = 8,
};

typedef struct we_quantised_layer {
    int32_t node;                  /* of the operator on bytes, where QuantizeLinear was */
    int32_t parts[WE_LAYER_PARTS]; /* nodes it stands for: that one, the operator, and what is around it */
    int32_t part_count;
    double ms, parts_ms; /* predicted, as one operator and as it was given */
    bool kept;           /* as it was given */
} we_quantised_layer;

/* A graph with the same values and places of nodes (and two values more); nodes that nobody reads from any
 * more have no inputs and outputs. It borrows from the graph it was made of, which must outlive it. */
typedef struct we_quantised {
    we_graph graph;
    we_arena arena;
    const we_graph *given;
    we_quantised_layer *layers;
    size_t layer_count;
    we_node *operators; /* by node */
    bool *read;         /* by value: by a node that lives */
} we_quantised;

/* *out is NULL where the graph has no such layer. */
we_status we_quantised_new(const we_graph *graph, we_quantised **out, we_error *err);
/* The graph anew, by which layers are kept. */
void we_quantised_rewrite(we_quantised *quantised);
void we_quantised_free(we_quantised *quantised);

static inline bool we_node_is_dead(const we_node *node) {
    return node->input_count == 0 && node->output_count == 0;
}

#endif
