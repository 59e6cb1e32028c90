/* The rules of a legal graph:
 *  1. every op is in the table (checked when the node is added), arity is within its row;
 *  2. every attribute is declared for its op, given once, and of the declared kind; numbers are finite;
 *  3. every used name is defined by exactly one input, weight or node output;
 *  4. the nodes can be ordered so that each reads only what is written before it (no cycles);
 *  5. there is at least one output, and no output of the whole is listed twice;
 *  6. a body keeps them too; what it does not define, the graph round it does. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/graph.h"
#include "graph/opspec.h"

static we_status check_arity(const we_node *node, we_error *err) {
    int32_t min_in, max_in, min_out, max_out;
    we_op_arity(node->op, &min_in, &max_in, &min_out, &max_out);
    const char *op = we_op_name(node->op);
    if (node->input_count < min_in || node->input_count > max_in)
        return we_error_set_at(err, WE_INVALID_MODEL, op, node->name, "%s takes %d to %d inputs, not %d", op,
                               (int)min_in, (int)max_in, (int)node->input_count);
    if (node->output_count < min_out || node->output_count > max_out)
        return we_error_set_at(err, WE_INVALID_MODEL, op, node->name, "%s has %d to %d outputs, not %d", op,
                               (int)min_out, (int)max_out, (int)node->output_count);
    for (int32_t i = 0; i < min_in; i++) {
        if (node->inputs[i] < 0)
            return we_error_set_at(err, WE_INVALID_MODEL, op, node->name, "input %d of %s is required",
                                   (int)i, op);
    }
    for (int32_t i = 0; i < node->output_count; i++) {
        if (node->outputs[i] >= 0)
            return WE_OK;
    }
    return we_error_set_at(err, WE_INVALID_MODEL, op, node->name, "an output of %s is required", op);
}

static we_status check_attrs(const we_graph *graph, const we_node *node, we_error *err) {
    const char *op = we_op_name(node->op);
    for (size_t i = 0; i < node->attr_count; i++) {
        const we_attr *attr = &node->attrs[i];
        const we_attr_spec *spec = we_op_attr(node->op, attr->name);
        if (!spec)
            return we_error_set_at(err, WE_UNSUPPORTED, op, node->name, "%s has no attribute '%.60s' here",
                                   op, attr->name);
        if (spec->kind != attr->kind)
            return we_error_set_at(err, WE_INVALID_MODEL, op, node->name,
                                   "attribute '%s' of %s has the wrong type", attr->name, op);
        if (we_node_attr(node, attr->name) != attr)
            return we_error_set_at(err, WE_INVALID_MODEL, op, node->name, "attribute '%s' is given twice",
                                   attr->name);
        bool finite = attr->kind != WE_ATTR_FLOAT || isfinite(attr->real);
        for (size_t j = 0; attr->kind == WE_ATTR_FLOATS && j < attr->count; j++)
            finite = finite && isfinite(attr->reals[j]);
        if (!finite)
            return we_error_set_at(err, WE_INVALID_MODEL, op, node->name, "attribute '%s' is not finite",
                                   attr->name);
        if (attr->kind == WE_ATTR_TENSOR) {
            int32_t index = we_names_find(&graph->names, attr->string);
            if (index < 0 || graph->values[index].kind != WE_VALUE_WEIGHT)
                return we_error_set_at(err, WE_INVALID_MODEL, op, node->name,
                                       "attribute '%s' names '%.60s', which is no weight", attr->name,
                                       attr->string);
        }
    }
    return WE_OK;
}

static we_status check_defined(const we_graph *graph, we_error *err) {
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++) {
            if (node->inputs[i] >= 0 && graph->values[node->inputs[i]].kind == WE_VALUE_UNDEFINED)
                return we_error_set_at(err, WE_INVALID_MODEL, we_op_name(node->op), node->name,
                                       "input '%.100s' is defined nowhere",
                                       graph->values[node->inputs[i]].name);
        }
        for (int32_t i = 0; i < node->capture_count; i++) {
            if (graph->values[node->captures[i]].kind == WE_VALUE_UNDEFINED)
                return we_error_set_at(err, WE_INVALID_MODEL, we_op_name(node->op), node->name,
                                       "its body reads '%.100s', which is defined nowhere",
                                       graph->values[node->captures[i]].name);
        }
    }
    if (graph->output_count == 0)
        return we_error_set(err, WE_INVALID_MODEL, "the graph has no outputs");
    for (size_t i = 0; i < graph->output_count; i++) {
        const char *name = graph->values[graph->outputs[i]].name;
        if (graph->values[graph->outputs[i]].kind == WE_VALUE_UNDEFINED)
            return we_error_set(err, WE_INVALID_MODEL, "the graph output '%.100s' is defined nowhere", name);
    }
    return WE_OK;
}

static we_status check_outputs_once(const we_graph *graph, we_error *err) {
    bool *seen = we_memory_new(graph->value_count * sizeof *seen);
    if (!seen)
        return we_error_no_memory(err);
    we_status status = WE_OK;
    for (size_t i = 0; i < graph->output_count && status == WE_OK; i++) {
        if (seen[graph->outputs[i]])
            status = we_error_set(err, WE_INVALID_MODEL, "the graph output '%.100s' is listed twice",
                                  graph->values[graph->outputs[i]].name);
        seen[graph->outputs[i]] = true;
    }
    we_memory_free(seen);
    return status;
}

/* Scratch of the topological sort, one allocation each. Readers of value v are readers[first[v] .. first[v +
 * 1]). */
typedef struct sorter {
    int32_t *first, *readers, *missing, *queue;
    we_node *sorted;
} sorter;

/* What a node reads: its inputs, then what its bodies read. */
static int32_t read_count(const we_node *node) {
    return node->input_count + node->capture_count;
}

/* The i-th of them if a node writes it, else -1. */
static int32_t read_of(const we_graph *graph, const we_node *node, int32_t i) {
    int32_t value = i < node->input_count ? node->inputs[i] : node->captures[i - node->input_count];
    return value >= 0 && graph->values[value].kind == WE_VALUE_NODE ? value : -1;
}

static void index_readers(const we_graph *graph, sorter *s) {
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        for (int32_t i = 0; i < read_count(node); i++) {
            int32_t value = read_of(graph, node, i);
            if (value >= 0) {
                s->first[value + 1]++;
                s->missing[n]++;
            }
        }
    }
    for (size_t v = 0; v < graph->value_count; v++)
        s->first[v + 1] += s->first[v];
    s->first[graph->value_count + 1] = s->first[graph->value_count];
    for (size_t n = graph->node_count; n-- > 0;) {
        const we_node *node = &graph->nodes[n];
        for (int32_t i = 0; i < read_count(node); i++) {
            int32_t value = read_of(graph, node, i);
            if (value >= 0)
                s->readers[--s->first[value + 1]] = (int32_t)n;
        }
    }
}

/* Kahn's algorithm with the readers of each value indexed once: linear in nodes and links, also for hostile
 * graphs. */
static we_status sort_nodes(we_graph *graph, sorter *s, we_error *err) {
    size_t head = 0, tail = 0;
    for (size_t n = 0; n < graph->node_count; n++) {
        if (s->missing[n] == 0)
            s->queue[tail++] = (int32_t)n;
    }
    while (head < tail) {
        const we_node *node = &graph->nodes[s->queue[head]];
        s->sorted[head++] = *node;
        for (int32_t o = 0; o < node->output_count; o++) {
            int32_t value = node->outputs[o];
            if (value < 0)
                continue;
            for (int32_t r = s->first[value + 1]; r < s->first[value + 2]; r++) {
                if (--s->missing[s->readers[r]] == 0)
                    s->queue[tail++] = s->readers[r];
            }
        }
    }
    for (size_t n = 0; head < graph->node_count && n < graph->node_count; n++) {
        if (s->missing[n] > 0)
            return we_error_set_at(err, WE_INVALID_MODEL, we_op_name(graph->nodes[n].op),
                                   graph->nodes[n].name, "the graph has a cycle through or before this node");
    }
    if (graph->node_count)
        memcpy(graph->nodes, s->sorted, graph->node_count * sizeof *graph->nodes);
    return WE_OK;
}

/* True if every node reads only what an earlier one wrote: then the author's order stays. `written` is zeroed
 * scratch. */
static bool in_order(const we_graph *graph, int32_t *written) {
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        for (int32_t i = 0; i < read_count(node); i++) {
            int32_t value = read_of(graph, node, i);
            if (value >= 0 && !written[value])
                return false;
        }
        for (int32_t o = 0; o < node->output_count; o++) {
            if (node->outputs[o] >= 0)
                written[node->outputs[o]] = 1;
        }
    }
    return true;
}

static we_status order(we_graph *graph, we_error *err) {
    size_t links = 0;
    for (size_t n = 0; n < graph->node_count; n++)
        links += (size_t)read_count(&graph->nodes[n]);
    sorter s = {
        .first = we_memory_new((graph->value_count + 2) * sizeof *s.first),
        .readers = we_memory_new(links * sizeof *s.readers),
        .missing = we_memory_new(graph->node_count * sizeof *s.missing),
        .queue = we_memory_new(graph->node_count * sizeof *s.queue),
        .sorted = we_memory_new(graph->node_count * sizeof *s.sorted),
    };
    we_status status;
    if (!s.first || !s.readers || !s.missing || !s.queue || !s.sorted) {
        status = we_error_no_memory(err);
    } else if (in_order(graph, s.first)) {
        status = WE_OK;
    } else {
        memset(s.first, 0, (graph->value_count + 2) * sizeof *s.first);
        index_readers(graph, &s);
        status = sort_nodes(graph, &s, err);
    }
    we_memory_free(s.first);
    we_memory_free(s.readers);
    we_memory_free(s.missing);
    we_memory_free(s.queue);
    we_memory_free(s.sorted);
    return status;
}

/* Tell the values of a body what the graph round it knows of them. */
static void adopt(const we_graph *graph, we_graph *body) {
    for (size_t i = 0; i < body->capture_count; i++) {
        const we_value *outer = &graph->values[body->captures[i].outer];
        we_value *inner = &body->values[body->captures[i].inner];
        if (outer->kind == WE_VALUE_WEIGHT) {
            const char *name = inner->name;
            *inner = *outer;
            inner->name = name;
        } else {
            inner->kind = WE_VALUE_OUTER;
        }
    }
}

static we_status verify(we_graph *graph, bool is_body, we_error *err);

static we_status verify_bodies(const we_graph *graph, we_error *err) {
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        for (size_t i = 0; node->bodies && i < node->attr_count; i++) {
            if (!node->bodies[i])
                continue;
            adopt(graph, node->bodies[i]);
            WE_TRY(verify(node->bodies[i], true, err));
        }
    }
    return WE_OK;
}

static we_status verify(we_graph *graph, bool is_body, we_error *err) {
    for (size_t n = 0; n < graph->node_count; n++) {
        WE_TRY(check_arity(&graph->nodes[n], err));
        WE_TRY(check_attrs(graph, &graph->nodes[n], err));
    }
    WE_TRY(check_defined(graph, err));
    if (!is_body)
        WE_TRY(check_outputs_once(graph, err));
    WE_TRY(order(graph, err));
    return verify_bodies(graph, err);
}

we_status we_graph_verify(we_graph *graph, we_error *err) {
    return verify(graph, false, err);
}
