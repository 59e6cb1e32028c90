#include "graph/graph.h"

#include <string.h>

void we_graph_free(we_graph *graph) {
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        for (size_t i = 0; node->bodies && i < node->attr_count; i++) {
            if (node->bodies[i])
                we_graph_free(node->bodies[i]); /* at most WE_MAX_NESTING deep */
        }
    }
    we_names_free(&graph->names);
    we_memory_free(graph->values);
    we_memory_free(graph->nodes);
    we_memory_free(graph->inputs);
    we_memory_free(graph->outputs);
    we_arena_free(&graph->arena);
    memset(graph, 0, sizeof *graph);
}

const we_attr *we_node_attr(const we_node *node, const char *name) {
    for (size_t i = 0; i < node->attr_count; i++) {
        if (strcmp(node->attrs[i].name, name) == 0)
            return &node->attrs[i];
    }
    return NULL;
}

we_graph *we_node_body(const we_node *node, const char *name) {
    for (size_t i = 0; node->bodies && i < node->attr_count; i++) {
        if (strcmp(node->attrs[i].name, name) == 0)
            return node->bodies[i];
    }
    return NULL;
}

int64_t we_node_int(const we_node *node, const char *name, int64_t fallback) {
    const we_attr *attr = we_node_attr(node, name);
    return attr ? attr->integer : fallback;
}

double we_node_float(const we_node *node, const char *name, double fallback) {
    const we_attr *attr = we_node_attr(node, name);
    return attr ? attr->real : fallback;
}

const char *we_node_string(const we_node *node, const char *name, const char *fallback) {
    const we_attr *attr = we_node_attr(node, name);
    return attr ? attr->string : fallback;
}
