#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/graph.h"
#include "graph/opspec.h"

enum {
    MAX_NAME = 4096, /* bytes of any name */
    MAX_VALUES = 1 << 20,
    MAX_NODES = 1 << 18,
    MAX_ATTR_ITEMS = 1 << 20,
    MAX_ATTRS = 64,
};

struct we_builder {
    we_graph graph;
    bool spent;
};

static we_status check_name(const char *what, const char *name, we_error *err) {
    if (!name || !name[0])
        return we_error_set(err, WE_INVALID_MODEL, "%s has no name", what);
    if (strlen(name) > MAX_NAME)
        return we_error_set(err, WE_INVALID_MODEL, "%s has a name of more than %d bytes", what, MAX_NAME);
    return WE_OK;
}

static we_status check_open(const we_builder *builder, we_error *err) {
    if (!builder)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the builder is NULL");
    if (builder->spent)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "the builder is spent: make a new one for another graph");
    return WE_OK;
}

/* The index of the value of that name, made (undefined) if need be. */
static we_status value_named(we_graph *graph, const char *name, int32_t *index, we_error *err) {
    *index = we_names_find(&graph->names, name);
    if (*index >= 0)
        return WE_OK;
    if (graph->value_count >= MAX_VALUES)
        return we_error_set(err, WE_INVALID_MODEL, "the graph has more than %d values", MAX_VALUES);
    char *copy = we_arena_text(&graph->arena, name, strlen(name));
    if (!copy ||
        !we_memory_grow((void **)&graph->values, &graph->value_room, graph->value_count,
                        sizeof *graph->values) ||
        !we_names_add(&graph->names, copy, (int32_t)graph->value_count))
        return we_error_no_memory(err);
    *index = (int32_t)graph->value_count++;
    graph->values[*index].name = copy;
    return WE_OK;
}

static we_status define(we_graph *graph, const char *name, we_value_kind kind, we_value **out,
                        we_error *err) {
    int32_t index;
    WE_TRY(value_named(graph, name, &index, err));
    we_value *value = &graph->values[index];
    if (value->kind != WE_VALUE_UNDEFINED)
        return we_error_set(err, WE_INVALID_MODEL, "the name '%s' is defined twice: rename one of the two",
                            name);
    value->kind = kind;
    *out = value;
    return WE_OK;
}

static we_status set_type(we_graph *graph, we_value *value, we_dtype dtype, int32_t rank, const int64_t *dims,
                          const char *const *symbols, we_error *err) {
    int64_t known[WE_MAX_RANK], count;
    if (we_dtype_size(dtype) == 0)
        return we_error_set(err, WE_INVALID_MODEL, "'%s' has an unknown dtype (%d)", value->name, (int)dtype);
    if (rank < 0 || rank > WE_MAX_RANK)
        return we_error_set(err, WE_INVALID_MODEL, "'%s' has rank %d; 0 to %d are supported", value->name,
                            (int)rank, WE_MAX_RANK);
    for (int32_t i = 0; i < rank; i++)
        known[i] = dims[i] == -1 ? 1 : dims[i];
    if (!we_shape_count(rank, known, dtype, &count))
        return we_error_set(err, WE_INVALID_MODEL, "'%s' has a negative or absurdly large dim", value->name);
    value->typed = true;
    value->dtype = dtype;
    value->rank = rank;
    for (int32_t i = 0; i < rank; i++) {
        const char *symbol = symbols && symbols[i] ? symbols[i] : "";
        value->dims[i] = dims[i];
        if (dims[i] != -1)
            continue;
        value->symbols[i] = we_arena_text(&graph->arena, symbol, strlen(symbol));
        if (!value->symbols[i])
            return we_error_no_memory(err);
    }
    return WE_OK;
}

static we_status append(int32_t **items, size_t *room, size_t *count, int32_t item, we_error *err) {
    if (!we_memory_grow((void **)items, room, *count, sizeof **items))
        return we_error_no_memory(err);
    (*items)[(*count)++] = item;
    return WE_OK;
}

we_status we_builder_new(const char *graph_name, we_builder **out, we_error *err) {
    if (!out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the out pointer is NULL");
    *out = NULL;
    we_builder *builder = we_memory_new(sizeof *builder);
    if (!builder)
        return we_error_no_memory(err);
    const char *name = graph_name ? graph_name : "";
    builder->graph.name = we_arena_text(&builder->graph.arena, name, strlen(name));
    if (!builder->graph.name) {
        we_memory_free(builder);
        return we_error_no_memory(err);
    }
    *out = builder;
    return WE_OK;
}

void we_builder_free(we_builder *builder) {
    if (!builder)
        return;
    we_graph_free(&builder->graph);
    we_memory_free(builder);
}

we_status we_builder_input(we_builder *builder, const char *name, we_dtype dtype, int32_t rank,
                           const int64_t *dims, const char *const *symbols, we_error *err) {
    we_value *value = NULL;
    WE_TRY(check_open(builder, err));
    WE_TRY(check_name("a graph input", name, err));
    we_graph *graph = &builder->graph;
    WE_TRY(define(graph, name, WE_VALUE_INPUT, &value, err));
    WE_TRY(set_type(graph, value, dtype, rank, dims, symbols, err));
    return append(&graph->inputs, &graph->input_room, &graph->input_count, (int32_t)(value - graph->values),
                  err);
}

we_status we_builder_input_untyped(we_builder *builder, const char *name, we_io_kind kind, we_dtype dtype,
                                   we_error *err) {
    we_value *value = NULL;
    WE_TRY(check_open(builder, err));
    WE_TRY(check_name("a graph input", name, err));
    if ((unsigned)kind > WE_IO_OPTIONAL || (unsigned)dtype > WE_DTYPE_COUNT)
        return we_error_set(err, WE_INVALID_MODEL, "'%.100s' has an unknown kind or dtype", name);
    we_graph *graph = &builder->graph;
    WE_TRY(define(graph, name, WE_VALUE_INPUT, &value, err));
    value->io = kind;
    value->dtype = dtype;
    value->rank = -1;
    return append(&graph->inputs, &graph->input_room, &graph->input_count, (int32_t)(value - graph->values),
                  err);
}

we_status we_builder_weight_borrowed(we_builder *builder, const char *name, const we_view *view,
                                     we_error *err) {
    we_value *value = NULL;
    int64_t count;
    WE_TRY(check_open(builder, err));
    WE_TRY(check_name("a weight", name, err));
    if (view->dtype == WE_STRING)
        return we_error_set(err, WE_UNSUPPORTED,
                            "weight '%.100s' is text: use a Constant with value_strings instead", name);
    WE_TRY(define(&builder->graph, name, WE_VALUE_WEIGHT, &value, err));
    if (!we_shape_count(view->rank, view->dims, view->dtype, &count))
        return we_error_set(err, WE_INVALID_MODEL, "weight '%s' has an illegal shape or dtype", name);
    if (count && !view->data)
        return we_error_set(err, WE_INVALID_MODEL, "weight '%s' has no data", name);
    WE_TRY(set_type(&builder->graph, value, view->dtype, view->rank, view->dims, NULL, err));
    value->data = view->data;
    return WE_OK;
}

we_status we_builder_weight(we_builder *builder, const char *name, const we_view *view, we_error *err) {
    int64_t count;
    WE_TRY(check_open(builder, err));
    if (!view || !we_shape_count(view->rank, view->dims, view->dtype, &count))
        return we_error_set(err, WE_INVALID_MODEL, "weight '%s' has an illegal shape or dtype",
                            name ? name : "");
    we_view copy = *view;
    if (count) {
        if (!view->data)
            return we_error_set(err, WE_INVALID_MODEL, "weight '%s' has no data", name ? name : "");
        copy.data =
            we_arena_copy(&builder->graph.arena, view->data, (size_t)count * we_dtype_size(view->dtype));
        if (!copy.data)
            return we_error_no_memory(err);
    }
    return we_builder_weight_borrowed(builder, name, &copy, err);
}

/* Copies one attribute into the arena. */
static we_status copy_attr(we_arena *arena, const we_attr *from, we_attr *to, we_error *err) {
    *to = (we_attr){.kind = from->kind, .integer = from->integer, .real = from->real, .count = from->count};
    if (from->count > MAX_ATTR_ITEMS)
        return we_error_set(err, WE_INVALID_MODEL, "attribute '%s' has more than %d items", from->name,
                            MAX_ATTR_ITEMS);
    if (!(to->name = we_arena_text(arena, from->name, strlen(from->name))))
        return we_error_no_memory(err);
    bool ok = true;
    switch (from->kind) {
    case WE_ATTR_INT:
    case WE_ATTR_FLOAT:
        break;
    case WE_ATTR_GRAPH:
        if (!from->graph || from->graph->spent)
            return we_error_set(err, WE_INVALID_MODEL, "attribute '%s' has no graph, or a spent one",
                                from->name);
        break;
    case WE_ATTR_STRING:
    case WE_ATTR_TENSOR:
        if (!from->string)
            return we_error_set(err, WE_INVALID_MODEL, "attribute '%s' has no text", from->name);
        ok = (to->string = we_arena_text(arena, from->string, strlen(from->string))) != NULL;
        break;
    case WE_ATTR_INTS:
        ok = (to->integers = we_arena_copy(arena, from->integers, from->count * sizeof *from->integers)) !=
             NULL;
        break;
    case WE_ATTR_FLOATS:
        ok = (to->reals = we_arena_copy(arena, from->reals, from->count * sizeof *from->reals)) != NULL;
        break;
    case WE_ATTR_STRINGS: {
        const char **texts = we_arena_new(arena, from->count * sizeof *texts);
        ok = texts != NULL;
        for (size_t i = 0; ok && i < from->count; i++)
            ok = from->strings[i] &&
                 (texts[i] = we_arena_text(arena, from->strings[i], strlen(from->strings[i])));
        to->strings = texts;
        break;
    }
    default:
        return we_error_set(err, WE_INVALID_MODEL, "attribute '%s' has an unknown kind", from->name);
    }
    return ok ? WE_OK : we_error_no_memory(err);
}

/* Whole numbers serve where the op wants real ones, and an empty list fits every list. */
static we_status adapt_attr(we_arena *arena, const we_attr_spec *spec, we_attr *attr, we_error *err) {
    bool is_list =
        attr->kind == WE_ATTR_INTS || attr->kind == WE_ATTR_FLOATS || attr->kind == WE_ATTR_STRINGS;
    if (!spec || spec->kind == attr->kind)
        return WE_OK;
    if (spec->kind == WE_ATTR_FLOAT && attr->kind == WE_ATTR_INT) {
        attr->kind = WE_ATTR_FLOAT;
        attr->real = (double)attr->integer;
    } else if (spec->kind == WE_ATTR_FLOATS && attr->kind == WE_ATTR_INTS) {
        double *reals = we_arena_new(arena, attr->count * sizeof *reals);
        if (!reals)
            return we_error_no_memory(err);
        for (size_t i = 0; i < attr->count; i++)
            reals[i] = (double)attr->integers[i];
        attr->kind = WE_ATTR_FLOATS;
        attr->reals = reals;
    } else if (is_list && attr->count == 0 &&
               (spec->kind == WE_ATTR_INTS || spec->kind == WE_ATTR_FLOATS ||
                spec->kind == WE_ATTR_STRINGS)) {
        attr->kind = spec->kind;
    }
    return WE_OK;
}

static we_status copy_links(we_graph *graph, const char *const *names, size_t count, bool defines,
                            const int32_t **out, we_error *err) {
    int32_t *links = we_arena_new(&graph->arena, count * sizeof *links);
    if (!links)
        return we_error_no_memory(err);
    for (size_t i = 0; i < count; i++) {
        links[i] = -1;
        if (!names[i] || !names[i][0])
            continue;
        if (defines) {
            we_value *value = NULL;
            WE_TRY(define(graph, names[i], WE_VALUE_NODE, &value, err));
            links[i] = (int32_t)(value - graph->values);
        } else {
            WE_TRY(value_named(graph, names[i], &links[i], err));
        }
    }
    *out = links;
    return WE_OK;
}

/* Take the graph out of a builder and list what it reads of the graph round it. */
static we_status take_body(we_graph *graph, we_builder *from, we_graph **out, we_error *err) {
    we_graph *body = we_arena_new(&graph->arena, sizeof *body);
    if (!body)
        return we_error_no_memory(err);
    *body = from->graph;
    from->graph = (we_graph){0};
    from->spent = true;
    *out = body; /* from here on the node owns it */
    if (body->nesting + 1 > WE_MAX_NESTING)
        return we_error_set(err, WE_INVALID_MODEL, "more than %d graphs inside each other", WE_MAX_NESTING);
    graph->nesting = body->nesting + 1 > graph->nesting ? body->nesting + 1 : graph->nesting;
    body->captures = we_arena_new(&body->arena, body->value_count * sizeof *body->captures);
    if (!body->captures)
        return we_error_no_memory(err);
    for (size_t v = 0; v < body->value_count; v++) {
        if (body->values[v].kind != WE_VALUE_UNDEFINED)
            continue;
        we_capture *capture = &body->captures[body->capture_count++];
        capture->inner = (int32_t)v;
        WE_TRY(value_named(graph, body->values[v].name, &capture->outer, err));
    }
    return WE_OK;
}

static we_status take_bodies(we_graph *graph, we_node *node, const we_attr *attrs, we_error *err) {
    size_t count = 0;
    node->bodies = we_arena_new(&graph->arena, node->attr_count * sizeof *node->bodies);
    if (!node->bodies)
        return we_error_no_memory(err);
    for (size_t i = 0; i < node->attr_count; i++) {
        if (attrs[i].kind != WE_ATTR_GRAPH)
            continue;
        WE_TRY(take_body(graph, attrs[i].graph, &node->bodies[i], err));
        count += node->bodies[i]->capture_count;
    }
    int32_t *captures = we_arena_new(&graph->arena, count * sizeof *captures);
    if (!captures || count > INT32_MAX)
        return we_error_no_memory(err);
    node->captures = captures;
    for (size_t i = 0; i < node->attr_count; i++) {
        for (size_t c = 0; node->bodies[i] && c < node->bodies[i]->capture_count; c++)
            captures[node->capture_count++] = node->bodies[i]->captures[c].outer;
    }
    return WE_OK;
}

static bool has_body(const we_attr *attrs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (attrs[i].kind == WE_ATTR_GRAPH)
            return true;
    }
    return false;
}

static we_status add_node(we_graph *graph, const char *op, const char *node_name, const char *const *inputs,
                          size_t input_count, const char *const *outputs, size_t output_count,
                          const we_attr *attrs, size_t attr_count, we_error *err) {
    we_node node = {.op = we_op_find(op), .attr_count = attr_count};
    if (node.op < 0)
        return we_error_set(
            err, WE_UNSUPPORTED,
            "operator '%.60s' is not in this engine's table: `walle-engine coverage` lists what is", op);
    if (input_count > WE_MAX_NODE_INPUTS || output_count > WE_MAX_NODE_INPUTS || attr_count > MAX_ATTRS)
        return we_error_set(err, WE_INVALID_MODEL, "the node has too many inputs, outputs or attributes");
    if (graph->node_count >= MAX_NODES)
        return we_error_set(err, WE_INVALID_MODEL, "the graph has more than %d nodes", MAX_NODES);
    node.input_count = (int32_t)input_count;
    node.output_count = (int32_t)output_count;
    node.name = we_arena_text(&graph->arena, node_name, strlen(node_name));
    we_attr *copies = we_arena_new(&graph->arena, attr_count * sizeof *copies);
    if (!node.name || !copies)
        return we_error_no_memory(err);
    WE_TRY(copy_links(graph, inputs, input_count, false, &node.inputs, err));
    WE_TRY(copy_links(graph, outputs, output_count, true, &node.outputs, err));
    for (size_t i = 0; i < attr_count; i++) {
        WE_TRY(check_name("an attribute", attrs[i].name, err));
        WE_TRY(copy_attr(&graph->arena, &attrs[i], &copies[i], err));
        WE_TRY(adapt_attr(&graph->arena, we_op_attr(node.op, attrs[i].name), &copies[i], err));
        int32_t named; /* so that a body sees the weight of the graph round it */
        if (attrs[i].kind == WE_ATTR_TENSOR)
            WE_TRY(value_named(graph, attrs[i].string, &named, err));
    }
    node.attrs = copies;
    if (!we_memory_grow((void **)&graph->nodes, &graph->node_room, graph->node_count, sizeof *graph->nodes))
        return we_error_no_memory(err);
    we_node *added = &graph->nodes[graph->node_count++];
    *added = node;
    return has_body(attrs, attr_count) ? take_bodies(graph, added, attrs, err) : WE_OK;
}

we_status we_builder_node(we_builder *builder, const char *op, const char *node_name,
                          const char *const *inputs, size_t input_count, const char *const *outputs,
                          size_t output_count, const we_attr *attrs, size_t attr_count, we_error *err) {
    WE_TRY(check_open(builder, err));
    WE_TRY(check_name("the operator of a node", op, err));
    const char *name = node_name ? node_name : "";
    if (strlen(name) > MAX_NAME)
        return we_error_set(err, WE_INVALID_MODEL, "a node has a name of more than %d bytes", MAX_NAME);
    we_status status = add_node(&builder->graph, op, name, inputs, input_count, outputs, output_count, attrs,
                                attr_count, err);
    if (status != WE_OK)
        we_error_locate(err, op, name);
    return status;
}

we_status we_builder_output_typed(we_builder *builder, const char *name, we_dtype dtype, int32_t rank,
                                  const int64_t *dims, const char *const *symbols, we_error *err) {
    int32_t index;
    WE_TRY(check_open(builder, err));
    WE_TRY(check_name("a graph output", name, err));
    we_graph *graph = &builder->graph;
    WE_TRY(value_named(graph, name, &index, err));
    we_value *value = &graph->values[index];
    if (rank >= 0 && !value->typed)
        WE_TRY(set_type(graph, value, dtype, rank, dims, symbols, err));
    return append(&graph->outputs, &graph->output_room, &graph->output_count, index, err);
}

we_status we_builder_output_hint(we_builder *builder, const char *name, we_io_kind kind, we_dtype dtype,
                                 int32_t rank, const int64_t *dims, we_error *err) {
    WE_TRY(we_builder_output_typed(builder, name, WE_F32, -1, NULL, NULL, err));
    we_value *value = &builder->graph.values[we_names_find(&builder->graph.names, name)];
    if (value->kind != WE_VALUE_INPUT)
        value->io = kind;
    if (value->typed || rank < 0 || rank > WE_MAX_RANK)
        return WE_OK;
    value->hint = true;
    value->dtype = dtype;
    value->rank = rank;
    memcpy(value->dims, dims, (size_t)rank * sizeof *dims);
    return WE_OK;
}

we_status we_builder_output(we_builder *builder, const char *name, we_error *err) {
    return we_builder_output_typed(builder, name, WE_F32, -1, NULL, NULL, err);
}

we_status we_builder_seal(we_builder *builder, we_graph *out, we_error *err) {
    WE_TRY(check_open(builder, err));
    builder->spent = true;
    WE_TRY(we_graph_verify(&builder->graph, err));
    *out = builder->graph;
    builder->graph = (we_graph){0};
    return WE_OK;
}
