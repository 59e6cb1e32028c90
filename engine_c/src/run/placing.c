/* The items of the cut are: one that is on the CPU (whoever is outside the program), the nodes, and per value
 * two that stand for copying it. With p who writes a value, c who read it and w the price of a copy:
 *
 *   p on the CPU, some c on the device    p --w--> a, a --infinite--> every c
 *   p on the device, some c on the CPU    every c --infinite--> b, b --w--> p
 *
 * where an arrow costs if its start is on the CPU and its end is on the device. */
#include "run/placing.h"

#include <math.h>

#include "base/dtype.h"
#include "base/error.h"
#include "search/cut.h"

enum {
    OUTSIDE = 0, /* the item that is on the CPU */
    EDGES_PER_READ = 2,
    EDGES_PER_VALUE = 2,
};

typedef struct assignment {
    const we_graph *graph;
    const we_program *program;
    const int32_t *tensor_of;
    const we_opencl_parameters *parameters;
    int32_t *writer; /* item per value; -1: it is known beforehand */
    we_cut_edge *edges;
    size_t edge_count;
} assignment;

static int32_t item_of_node(int32_t node) {
    return OUTSIDE + 1 + node;
}

static int32_t item_of_copy(const assignment *a, int32_t value, int32_t to_device) {
    return item_of_node((int32_t)a->graph->node_count) + 2 * value + to_device;
}

static double bytes_of(const assignment *a, int32_t value) {
    const we_tensor *tensor = &a->program->tensors[a->tensor_of[value]];
    return (double)tensor->count * (double)we_dtype_size(tensor->dtype);
}

static void add_edge(assignment *a, int32_t from, int32_t to, double cost) {
    a->edges[a->edge_count++] = (we_cut_edge){from, to, cost};
}

static void find_writers(assignment *a) {
    const we_graph *graph = a->graph;
    for (size_t v = 0; v < graph->value_count; v++) {
        bool known = a->tensor_of[v] < 0 || graph->values[v].kind == WE_VALUE_WEIGHT ||
                     a->program->tensors[a->tensor_of[v]].kind == WE_TENSOR_CONST;
        a->writer[v] = known ? -1 : OUTSIDE;
    }
    for (size_t n = 0; n < graph->node_count; n++) {
        for (int32_t i = 0; i < graph->nodes[n].output_count; i++) {
            int32_t value = graph->nodes[n].outputs[i];
            if (value >= 0 && a->writer[value] >= 0)
                a->writer[value] = item_of_node((int32_t)n);
        }
    }
}

static void add_values(assignment *a) {
    const we_opencl_parameters *p = a->parameters;
    for (int32_t v = 0; v < (int32_t)a->graph->value_count; v++) {
        if (a->writer[v] < 0)
            continue;
        double bytes = bytes_of(a, v);
        add_edge(a, a->writer[v], item_of_copy(a, v, true), (p->copy + bytes / p->to_rate) * 1e-6);
        add_edge(a, item_of_copy(a, v, false), a->writer[v], (p->copy + bytes / p->from_rate) * 1e-6);
    }
}

static void add_read(assignment *a, int32_t value, int32_t reader) {
    if (value < 0 || a->writer[value] < 0)
        return;
    add_edge(a, item_of_copy(a, value, true), reader, INFINITY);
    add_edge(a, reader, item_of_copy(a, value, false), INFINITY);
}

static size_t count_reads(const we_graph *graph) {
    size_t reads = graph->output_count;
    for (size_t n = 0; n < graph->node_count; n++)
        reads += (size_t)graph->nodes[n].input_count;
    return reads;
}

static we_status solve(assignment *a, size_t items, const we_placing_price *prices, double (*costs)[2],
                       bool *second, bool *away, we_error *err) {
    const we_graph *graph = a->graph;
    bool solved;
    find_writers(a);
    add_values(a);
    costs[OUTSIDE][1] = INFINITY;
    for (size_t n = 0; n < graph->node_count; n++) {
        costs[item_of_node((int32_t)n)][0] = prices[n].cpu;
        costs[item_of_node((int32_t)n)][1] = prices[n].device;
        for (int32_t i = 0; i < graph->nodes[n].input_count; i++)
            add_read(a, graph->nodes[n].inputs[i], item_of_node((int32_t)n));
    }
    for (size_t i = 0; i < graph->output_count; i++)
        add_read(a, graph->outputs[i], OUTSIDE);
    WE_TRY(we_cut_solve(items, (const double (*)[2])costs, a->edges, a->edge_count, second, &solved, err));
    for (size_t n = 0; n < graph->node_count; n++)
        away[n] = solved && second[item_of_node((int32_t)n)];
    return WE_OK;
}

we_status we_placing_assign(const we_graph *graph, const we_program *program, const int32_t *tensor_of,
                            const we_opencl_parameters *parameters, const we_placing_price *prices,
                            bool *away, we_error *err) {
    assignment a = {graph, program, tensor_of, parameters, NULL, NULL, 0};
    size_t items = (size_t)item_of_copy(&a, (int32_t)graph->value_count, 0);
    size_t edges = EDGES_PER_READ * count_reads(graph) + EDGES_PER_VALUE * graph->value_count;
    double (*costs)[2] = we_memory_new(items * sizeof *costs);
    bool *second = we_memory_new(items);
    a.writer = we_memory_new(graph->value_count * sizeof *a.writer);
    a.edges = we_memory_new_dirty(edges * sizeof *a.edges);
    we_status status = costs && second && a.writer && a.edges
                           ? solve(&a, items, prices, costs, second, away, err)
                           : we_error_no_memory(err);
    we_memory_free(costs);
    we_memory_free(second);
    we_memory_free(a.writer);
    we_memory_free(a.edges);
    return status;
}
