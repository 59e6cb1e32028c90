/* Nodes whose commands a Gradient node differentiates: they are to be lowered to what has formulas. */
#include <string.h>

#include "grad/grad.h"

static bool any(const int32_t *list, int32_t count, const bool *values) {
    for (int32_t i = 0; i < count; i++) {
        if (list[i] >= 0 && values[list[i]])
            return true;
    }
    return false;
}

static void flag(const int32_t *list, int32_t count, bool *values) {
    for (int32_t i = 0; i < count; i++) {
        if (list[i] >= 0)
            values[list[i]] = true;
    }
}

/* Of the nodes before `last`, which is a Gradient node. */
static void flag_between(const we_graph *graph, size_t last, bool *values, bool *nodes) {
    const we_node *gradient = &graph->nodes[last];
    bool *after = values, *before = values + graph->value_count;
    memset(values, 0, 2 * graph->value_count * sizeof *values);
    flag(gradient->inputs, gradient->input_count - 1, after);
    flag(&gradient->inputs[gradient->input_count - 1], 1, before);
    for (size_t n = 0; n < last; n++) {
        const we_node *node = &graph->nodes[n];
        if (any(node->inputs, node->input_count, after))
            flag(node->outputs, node->output_count, after);
    }
    for (size_t n = last; n-- > 0;) {
        const we_node *node = &graph->nodes[n];
        if (!any(node->outputs, node->output_count, before))
            continue;
        flag(node->inputs, node->input_count, before);
        nodes[n] = nodes[n] || any(node->inputs, node->input_count, after);
    }
}

bool we_grad_between(const we_graph *graph, bool *values, bool *nodes) {
    bool found = false;
    for (size_t n = 0; n < graph->node_count; n++) {
        if (graph->nodes[n].op != WE_OP_Gradient)
            continue;
        flag_between(graph, n, values, nodes);
        found = true;
    }
    return found;
}
