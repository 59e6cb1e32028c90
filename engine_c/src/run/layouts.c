/* The items of the cut are: one that is channels first (whoever is outside the program), the nodes, and per
 * value two that stand for turning it. With p who writes a value, c who read it and w the price of turning
 * it:
 *
 *   p first, some c last    p --w--> a, a --infinite--> every c
 *   p last, some c first    every c --infinite--> b, b --w--> p
 *
 * where an arrow costs if its start is channels first and its end is channels last. */
#include "run/layouts.h"

#include <math.h>

#include "base/dtype.h"
#include "base/error.h"
#include "search/cost.h"
#include "search/cut.h"

enum {
    OUTSIDE = 0, /* the item that is channels first */
    EDGES_PER_READ = 3,
    EDGES_PER_VALUE = 2,
};

typedef struct assignment {
    const we_graph *graph;
    const we_machine *machine;
    const we_program *program;
    const int32_t *tensor_of;
    const we_layout_ways *ways;
    int32_t *writer; /* item per value */
    we_cut_edge *edges;
    size_t edge_count;
} assignment;

static bool is_elementwise(const we_command *command) {
    return command->kind == WE_COMMAND_UNARY || command->kind == WE_COMMAND_CAST ||
           command->kind == WE_COMMAND_BINARY || command->kind == WE_COMMAND_SELECT;
}

we_layout_role we_layout_role_of(const we_program *program, size_t begin, size_t end) {
    bool elementwise = true, moves = true, reduces = begin < end;
    for (size_t c = begin; c < end; c++) {
        const we_command *command = &program->commands[c];
        bool reduction = command->kind == WE_COMMAND_REDUCE && command->u.reduce.k > 1;
        elementwise = elementwise && is_elementwise(command);
        moves = moves && command->kind == WE_COMMAND_RASTER;
        reduces = reduces && (c == begin ? reduction : is_elementwise(command));
    }
    return moves         ? WE_LAYOUT_MOVES
           : elementwise ? WE_LAYOUT_FOLLOWS
           : reduces     ? WE_LAYOUT_REDUCES
                         : WE_LAYOUT_FIRST;
}

static int32_t item_of_node(int32_t node) {
    return OUTSIDE + 1 + node;
}

static int32_t item_of_turning(const assignment *a, int32_t value, int32_t to_last) {
    return item_of_node((int32_t)a->graph->node_count) + 2 * value + to_last;
}

static const we_tensor *tensor_at(const assignment *a, int32_t value) {
    return &a->program->tensors[a->tensor_of[value]];
}

/* Milliseconds. One channel, or one position, lies the same either way. */
static double price_of_turning(const assignment *a, int32_t value) {
    const we_tensor *tensor = tensor_at(a, value);
    int64_t channels = tensor->rank > 2 ? tensor->dims[0] * tensor->dims[1] : 1;
    bool same = tensor->rank > 2 && (tensor->dims[1] == 1 || tensor->count == channels);
    double bytes = (double)tensor->count * (double)we_dtype_size(tensor->dtype);
    return same ? 0 : we_cost_turning(a->machine, bytes) * 1e-6;
}

static void add_edge(assignment *a, int32_t from, int32_t to, double cost) {
    a->edges[a->edge_count++] = (we_cut_edge){from, to, cost};
}

static void add_read(assignment *a, int32_t value, int32_t reader, bool follows) {
    add_edge(a, item_of_turning(a, value, true), reader, INFINITY);
    add_edge(a, reader, item_of_turning(a, value, false), INFINITY);
    if (follows)
        add_edge(a, a->writer[value], reader, INFINITY);
}

static void add_reads(assignment *a, int32_t index) {
    const we_node *node = &a->graph->nodes[index];
    const we_layout_ways *ways = &a->ways[index];
    int64_t largest = 0;
    for (int32_t i = 0; i < node->output_count && ways->role == WE_LAYOUT_FOLLOWS; i++)
        largest = node->outputs[i] >= 0 ? tensor_at(a, node->outputs[i])->count : largest;
    for (int32_t i = 0; i < node->input_count && ways->role != WE_LAYOUT_REDUCES; i++) {
        int32_t value = node->inputs[i];
        if (value < 0 || a->writer[value] < 0 ||
            (ways->role == WE_LAYOUT_CHOICE && i > 0 && i != ways->second) ||
            tensor_at(a, value)->count < largest || price_of_turning(a, value) == 0)
            continue;
        bool plain = ways->role == WE_LAYOUT_CHOICE && ways->reads_plain;
        add_read(a, value, plain ? OUTSIDE : item_of_node(index), ways->role == WE_LAYOUT_FOLLOWS);
    }
}

static void add_values(assignment *a) {
    for (int32_t v = 0; v < (int32_t)a->graph->value_count; v++) {
        double ms = a->writer[v] < 0 ? 0 : price_of_turning(a, v);
        if (ms <= 0)
            continue;
        add_edge(a, a->writer[v], item_of_turning(a, v, true), ms);
        add_edge(a, item_of_turning(a, v, false), a->writer[v], ms);
    }
}

static void find_writers(assignment *a) {
    const we_graph *graph = a->graph;
    for (size_t v = 0; v < graph->value_count; v++) {
        bool known = a->tensor_of[v] >= 0 && graph->values[v].kind != WE_VALUE_WEIGHT &&
                     tensor_at(a, (int32_t)v)->kind != WE_TENSOR_CONST;
        a->writer[v] = known ? OUTSIDE : -1;
    }
    for (size_t n = 0; n < graph->node_count; n++) {
        for (int32_t i = 0; i < graph->nodes[n].output_count; i++) {
            int32_t value = graph->nodes[n].outputs[i];
            if (value >= 0 && a->writer[value] >= 0)
                a->writer[value] = item_of_node((int32_t)n);
        }
    }
}

static void set_costs(const assignment *a, double (*costs)[2]) {
    costs[OUTSIDE][1] = INFINITY;
    for (size_t n = 0; n < a->graph->node_count; n++) {
        const we_layout_ways *ways = &a->ways[n];
        double *of_node = costs[item_of_node((int32_t)n)];
        if (ways->role == WE_LAYOUT_FIRST || ways->role == WE_LAYOUT_REDUCES)
            of_node[1] = INFINITY;
        for (int32_t way = 0; way < 2 && ways->role == WE_LAYOUT_CHOICE; way++)
            of_node[way] = ways->ms[way];
    }
}

static size_t count_reads(const we_graph *graph) {
    size_t reads = graph->output_count;
    for (size_t n = 0; n < graph->node_count; n++)
        reads += (size_t)graph->nodes[n].input_count;
    return reads;
}

static we_status solve(assignment *a, size_t items, double (*costs)[2], bool *second, bool *last,
                       bool *better, we_error *err) {
    bool solved;
    find_writers(a);
    set_costs(a, costs);
    add_values(a);
    for (size_t n = 0; n < a->graph->node_count; n++)
        add_reads(a, (int32_t)n);
    for (size_t i = 0; i < a->graph->output_count; i++) {
        int32_t value = a->graph->outputs[i];
        if (a->writer[value] >= 0 && price_of_turning(a, value) > 0)
            add_read(a, value, OUTSIDE, false);
    }
    WE_TRY(we_cut_solve(items, (const double (*)[2])costs, a->edges, a->edge_count, second, &solved, err));
    *better = false;
    for (size_t n = 0; n < a->graph->node_count && solved; n++) {
        bool choice = a->ways[n].role == WE_LAYOUT_CHOICE;
        last[n] = choice && second[item_of_node((int32_t)n)];
        *better = *better || (choice && last[n] != a->ways[n].last);
    }
    return WE_OK;
}

we_status we_layouts_assign(const we_graph *graph, const we_machine *machine, const we_program *program,
                            const int32_t *tensor_of, const we_layout_ways *ways, bool *last, bool *better,
                            we_error *err) {
    assignment a = {graph, machine, program, tensor_of, ways, NULL, NULL, 0};
    size_t items = (size_t)item_of_turning(&a, (int32_t)graph->value_count, 0);
    size_t edges = EDGES_PER_READ * count_reads(graph) + EDGES_PER_VALUE * graph->value_count;
    double (*costs)[2] = we_memory_new(items * sizeof *costs);
    bool *second = we_memory_new(items);
    a.writer = we_memory_new(graph->value_count * sizeof *a.writer);
    a.edges = we_memory_new_dirty(edges * sizeof *a.edges);
    we_status status = costs && second && a.writer && a.edges
                           ? solve(&a, items, costs, second, last, better, err)
                           : we_error_no_memory(err);
    we_memory_free(costs);
    we_memory_free(second);
    we_memory_free(a.writer);
    we_memory_free(a.edges);
    return status;
}
