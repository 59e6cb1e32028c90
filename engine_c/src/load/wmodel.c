/* The .wmodel container: 8 bytes little-endian header length N, a JSON header of N bytes, then data.
 * Rules checked here, all before the graph is looked at:
 *  1. 8 + N is a multiple of 64 and lies inside the file; N is at most MAX_HEADER;
 *  2. every entry has a known dtype, a legal shape, and exactly the bytes its shape needs;
 *  3. entries tile the data without overlap or holes, and each begins at a multiple of 64;
 *  4. metadata has walle.format "1" and walle.graph. */
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/graph.h"
#include "load/json.h"
#include "load/load.h"

enum {
    MAX_HEADER = 64 << 20,
    MAX_LIST = 1 << 20,
};

static const char PAD_PREFIX[] = "walle.pad.";

typedef struct loader {
    we_arena arena;
    we_builder *builder;
    const unsigned char *data;
    size_t data_size;
    int32_t depth; /* of the graph being read: 0 outermost */
    we_error *err;
} loader;

typedef struct entry {
    const char *name;
    we_view view;
    size_t begin, end;
} entry;

static we_status bad(const loader *l, const char *where, const char *problem) {
    return we_error_set(l->err, WE_INVALID_MODEL, "the model is malformed: %.120s: %s", where, problem);
}

/* A list of dims. With `symbols`, strings stand for symbolic dims (-1). */
static we_status read_dims(const loader *l, const char *where, const we_json *list, int32_t *rank,
                           int64_t *dims, const char **symbols) {
    if (!list || list->kind != WE_JSON_ARRAY || list->count > WE_MAX_RANK)
        return bad(l, where, "'shape' must be a list of at most 8 dims");
    *rank = 0;
    for (const we_json *dim = list->first; dim; dim = dim->next) {
        bool symbolic = symbols && dim->kind == WE_JSON_STRING;
        if (!symbolic && !(dim->kind == WE_JSON_NUMBER && dim->whole && dim->integer >= 0))
            return bad(l, where, "a dim must be a whole number of at least 0");
        dims[*rank] = symbolic ? -1 : dim->integer;
        if (symbols)
            symbols[*rank] = symbolic ? dim->text : NULL;
        (*rank)++;
    }
    return WE_OK;
}

static we_status read_dtype(const loader *l, const char *where, const we_json *value, we_dtype *out) {
    if (!value || value->kind != WE_JSON_STRING)
        return bad(l, where, "'dtype' must be a string");
    if (!we_dtype_find(value->text, out))
        return we_error_set(l->err, WE_UNSUPPORTED,
                            "'%.60s' has the dtype '%.30s', which this engine does not know", where,
                            value->text);
    return WE_OK;
}

static we_status read_entry(const loader *l, const we_json *json, entry *out) {
    const we_json *range = we_json_get(json, "data_offsets");
    int64_t count = 0;
    out->name = json->key;
    if (json->kind != WE_JSON_OBJECT)
        return bad(l, json->key, "an entry must be an object");
    WE_TRY(read_dtype(l, json->key, we_json_get(json, "dtype"), &out->view.dtype));
    WE_TRY(read_dims(l, json->key, we_json_get(json, "shape"), &out->view.rank, out->view.dims, NULL));
    if (!range || range->kind != WE_JSON_ARRAY || range->count != 2 || !range->first->whole ||
        !range->first->next->whole || range->first->integer < 0)
        return bad(l, json->key, "'data_offsets' must be two whole numbers");
    int64_t begin = range->first->integer, end = range->first->next->integer;
    if (end < begin || (uint64_t)end > l->data_size)
        return bad(l, json->key, "its data lies outside the file (is the file truncated?)");
    if (!we_shape_count(out->view.rank, out->view.dims, out->view.dtype, &count) ||
        count * (int64_t)we_dtype_size(out->view.dtype) != end - begin)
        return bad(l, json->key, "its shape does not fit its bytes");
    out->begin = (size_t)begin;
    out->end = (size_t)end;
    out->view.data = (void *)(l->data + begin);
    return WE_OK;
}

static int by_begin(const void *a, const void *b) {
    const entry *p = a, *q = b;
    if (p->begin != q->begin)
        return p->begin < q->begin ? -1 : 1;
    return p->end < q->end ? -1 : p->end > q->end;
}

static bool is_pad(const entry *e) {
    return strncmp(e->name, PAD_PREFIX, sizeof PAD_PREFIX - 1) == 0;
}

static we_status read_entries(loader *l, const we_json *header) {
    entry *entries = we_arena_new(&l->arena, header->count * sizeof *entries);
    size_t count = 0, reached = 0;
    if (!entries)
        return we_error_no_memory(l->err);
    for (const we_json *json = header->first; json; json = json->next) {
        if (strcmp(json->key, "__metadata__") != 0)
            WE_TRY(read_entry(l, json, &entries[count++]));
    }
    qsort(entries, count, sizeof *entries, by_begin);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].begin != reached)
            return bad(l, entries[i].name, "its data overlaps another's or leaves a hole");
        if (entries[i].begin % WE_ALIGNMENT && entries[i].end > entries[i].begin && !is_pad(&entries[i]))
            return bad(l, entries[i].name, "its data does not begin at a multiple of 64");
        reached = entries[i].end;
    }
    if (reached != l->data_size)
        return bad(l, "file", "it holds bytes that belong to no tensor (is the file truncated?)");
    for (size_t i = 0; i < count; i++) {
        if (!is_pad(&entries[i]))
            WE_TRY(we_builder_weight_borrowed(l->builder, entries[i].name, &entries[i].view, l->err));
    }
    return WE_OK;
}

/* ---- The graph ---- */

static we_status read_text(const loader *l, const char *where, const we_json *object, const char *key,
                           const char **out) {
    const we_json *value = we_json_get(object, key);
    if (!value || value->kind != WE_JSON_STRING)
        return bad(l, where, key);
    *out = value->text;
    return WE_OK;
}

/* The same where nothing is to hold: a negative dim is an unknown one. */
static we_status read_loose_dims(const loader *l, const char *where, const we_json *list, int32_t *rank,
                                 int64_t *dims) {
    if (list->kind != WE_JSON_ARRAY || list->count > WE_MAX_RANK)
        return bad(l, where, "'shape' must be a list of at most 8 dims");
    *rank = 0;
    for (const we_json *dim = list->first; dim; dim = dim->next)
        dims[(*rank)++] = dim->kind == WE_JSON_NUMBER && dim->whole && dim->integer >= 0 ? dim->integer : -1;
    return WE_OK;
}

static bool is_absent(const we_json *json) {
    return !json || json->kind == WE_JSON_NULL;
}

static we_status read_io_kind(const loader *l, const char *where, const we_json *json, we_io_kind *out) {
    static const char *const NAMES[] = {"tensor", "sequence", "optional"};
    *out = WE_IO_TENSOR;
    if (is_absent(json))
        return WE_OK;
    for (size_t i = 0; json->kind == WE_JSON_STRING && i < sizeof NAMES / sizeof *NAMES; i++) {
        *out = (we_io_kind)i;
        if (strcmp(json->text, NAMES[i]) == 0)
            return WE_OK;
    }
    return bad(l, where, "'kind' must be 'tensor', 'sequence' or 'optional'");
}

/* An input or output whose type is stated in part or not at all: a body's, a sequence, an unknown rank. */
static we_status read_loose_info(loader *l, const we_json *json, const char *name, bool is_input) {
    const we_json *dtype_json = we_json_get(json, "dtype"), *shape = we_json_get(json, "shape");
    we_dtype dtype = WE_DTYPE_COUNT;
    we_io_kind kind;
    int32_t rank = -1;
    int64_t dims[WE_MAX_RANK];
    WE_TRY(read_io_kind(l, name, we_json_get(json, "kind"), &kind));
    if (!is_absent(dtype_json))
        WE_TRY(read_dtype(l, name, dtype_json, &dtype));
    if (!is_absent(shape))
        WE_TRY(read_loose_dims(l, name, shape, &rank, dims));
    if (is_input)
        return we_builder_input_untyped(l->builder, name, kind, dtype, l->err);
    return we_builder_output_hint(l->builder, name, kind, dtype, dtype == WE_DTYPE_COUNT ? -1 : rank, dims,
                                  l->err);
}

static we_status read_value_info(loader *l, const we_json *json, bool is_input) {
    const char *name = "", *symbols[WE_MAX_RANK];
    we_dtype dtype;
    int32_t rank;
    int64_t dims[WE_MAX_RANK];
    WE_TRY(read_text(l, "an input or output", json, "name", &name));
    const we_json *kind = we_json_get(json, "kind");
    if (l->depth > 0 || is_absent(we_json_get(json, "shape")) ||
        (!is_absent(kind) && strcmp(kind->text ? kind->text : "", "tensor") != 0))
        return read_loose_info(l, json, name, is_input);
    WE_TRY(read_dtype(l, name, we_json_get(json, "dtype"), &dtype));
    WE_TRY(read_dims(l, name, we_json_get(json, "shape"), &rank, dims, symbols));
    return is_input ? we_builder_input(l->builder, name, dtype, rank, dims, symbols, l->err)
                    : we_builder_output_typed(l->builder, name, dtype, rank, dims, symbols, l->err);
}

static we_status read_value_infos(loader *l, const we_json *graph, const char *key, bool is_input) {
    const we_json *list = we_json_get(graph, key);
    if (!list || list->kind != WE_JSON_ARRAY)
        return bad(l, key, "must be a list");
    for (const we_json *json = list->first; json; json = json->next)
        WE_TRY(read_value_info(l, json, is_input));
    return WE_OK;
}

static we_status read_names(loader *l, const we_json *node, const char *key, const char *const **out,
                            size_t *count) {
    const we_json *list = we_json_get(node, key);
    if (!list || list->kind != WE_JSON_ARRAY)
        return bad(l, key, "must be a list of names");
    const char **names = we_arena_new(&l->arena, list->count * sizeof *names);
    if (!names)
        return we_error_no_memory(l->err);
    *count = 0;
    for (const we_json *name = list->first; name; name = name->next) {
        if (name->kind != WE_JSON_STRING)
            return bad(l, key, "must be a list of names");
        names[(*count)++] = name->text;
    }
    *out = names;
    return WE_OK;
}

/* An empty list fits every kind; the op table then tells which is meant. */
static we_status read_list_attr(loader *l, const we_json *list, we_attr *attr) {
    if (list->count > MAX_LIST)
        return bad(l, attr->name, "the list is too long");
    int64_t *integers = we_arena_new(&l->arena, list->count * sizeof *integers);
    double *reals = we_arena_new(&l->arena, list->count * sizeof *reals);
    const char **strings = we_arena_new(&l->arena, list->count * sizeof *strings);
    if (!integers || !reals || !strings)
        return we_error_no_memory(l->err);
    bool numbers = true, whole = true, text = true;
    for (const we_json *item = list->first; item; item = item->next) {
        integers[attr->count] = item->integer;
        reals[attr->count] = item->real;
        strings[attr->count++] = item->text;
        numbers = numbers && item->kind == WE_JSON_NUMBER;
        whole = whole && item->whole;
        text = text && item->kind == WE_JSON_STRING;
    }
    if (!numbers && !text)
        return bad(l, attr->name, "a list must hold numbers or strings only");
    attr->kind = numbers ? (whole ? WE_ATTR_INTS : WE_ATTR_FLOATS) : WE_ATTR_STRINGS;
    attr->integers = integers;
    attr->reals = reals;
    attr->strings = strings;
    return WE_OK;
}

static we_status read_body(loader *l, const we_json *graph, we_builder **out);

static we_status read_attr(loader *l, const we_json *json, we_attr *attr) {
    *attr = (we_attr){.name = json->key, .integer = json->integer, .real = json->real, .string = json->text};
    switch (json->kind) {
    case WE_JSON_NUMBER:
        attr->kind = json->whole ? WE_ATTR_INT : WE_ATTR_FLOAT;
        return WE_OK;
    case WE_JSON_STRING:
        attr->kind = WE_ATTR_STRING;
        return WE_OK;
    case WE_JSON_ARRAY:
        return read_list_attr(l, json, attr);
    case WE_JSON_OBJECT:
        if (we_json_get(json, "graph")) {
            attr->kind = WE_ATTR_GRAPH;
            return read_body(l, we_json_get(json, "graph"), &attr->graph);
        }
        attr->kind = WE_ATTR_TENSOR;
        return read_text(l, json->key, json, "tensor", &attr->string);
    default:
        return bad(l, json->key, "an attribute is a number, a string, a list, a tensor or a graph");
    }
}

/* `attrs` has room for all of the node's attributes; *count of them were begun, whatever happens. */
static we_status read_attrs(loader *l, const we_json *json, we_attr *attrs, size_t *count) {
    for (const we_json *attr = json ? json->first : NULL; attr; attr = attr->next)
        WE_TRY(read_attr(l, attr, &attrs[(*count)++]));
    return WE_OK;
}

static we_status read_node(loader *l, const we_json *json) {
    const char *op = "", *name = "", *const * inputs, *const * outputs;
    size_t input_count, output_count, attr_count = 0;
    WE_TRY(read_text(l, "a node", json, "op", &op));
    WE_TRY(read_text(l, op, json, "name", &name));
    WE_TRY(read_names(l, json, "inputs", &inputs, &input_count));
    WE_TRY(read_names(l, json, "outputs", &outputs, &output_count));
    const we_json *attrs_json = we_json_get(json, "attrs");
    if (attrs_json && attrs_json->kind != WE_JSON_OBJECT)
        return bad(l, name, "'attrs' must be an object");
    we_attr *attrs = we_arena_new(&l->arena, (attrs_json ? attrs_json->count : 0) * sizeof *attrs);
    if (!attrs)
        return we_error_no_memory(l->err);
    we_status status = read_attrs(l, attrs_json, attrs, &attr_count);
    if (status == WE_OK)
        status = we_builder_node(l->builder, op, name, inputs, input_count, outputs, output_count, attrs,
                                 attr_count, l->err);
    for (size_t i = 0; i < attr_count; i++)
        we_builder_free(attrs[i].graph);
    return status;
}

/* What graph and body have in common, into l->builder. */
static we_status read_graph_parts(loader *l, const we_json *graph) {
    WE_TRY(read_value_infos(l, graph, "inputs", true));
    const we_json *nodes = we_json_get(graph, "nodes");
    if (!nodes || nodes->kind != WE_JSON_ARRAY)
        return bad(l, "walle.graph", "'nodes' must be a list");
    for (const we_json *node = nodes->first; node; node = node->next)
        WE_TRY(read_node(l, node));
    return read_value_infos(l, graph, "outputs", false);
}

/* The JSON reader bounds how deep bodies may lie in each other. */
static we_status read_body(loader *l, const we_json *graph, we_builder **out) {
    const char *name = "";
    we_builder *outer = l->builder;
    WE_TRY(read_text(l, "a body", graph, "name", &name));
    WE_TRY(we_builder_new(name, out, l->err));
    l->builder = *out;
    l->depth++;
    we_status status = read_graph_parts(l, graph);
    l->depth--;
    l->builder = outer;
    return status;
}

static we_status read_graph(loader *l, const we_json *metadata) {
    const char *format = "", *text = "", *name = "";
    we_json *graph = NULL;
    if (!metadata || metadata->kind != WE_JSON_OBJECT)
        return bad(l, "header", "no __metadata__: this is no .wmodel");
    WE_TRY(read_text(l, "metadata", metadata, "walle.format", &format));
    if (strcmp(format, "1") != 0)
        return we_error_set(l->err, WE_UNSUPPORTED,
                            "the model has format '%.20s'; this engine reads format 1", format);
    WE_TRY(read_text(l, "metadata", metadata, "walle.graph", &text));
    WE_TRY(we_json_parse(&l->arena, text, strlen(text), "walle.graph", &graph, l->err));
    WE_TRY(read_text(l, "walle.graph", graph, "name", &name));
    WE_TRY(we_builder_new(name, &l->builder, l->err));
    return read_graph_parts(l, graph);
}

static we_status read_container(loader *l, const we_mapping *mapping) {
    uint64_t length = 0;
    we_json *header = NULL;
    for (int i = 7; i >= 0 && mapping->size >= 8; i--)
        length = length << 8 | mapping->bytes[i];
    if (mapping->size < 8 || length > mapping->size - 8)
        return bad(l, "file", "it is shorter than its header says (is the file truncated?)");
    if (length > MAX_HEADER || (8 + length) % WE_ALIGNMENT)
        return bad(l, "file", "its header has an illegal length: this is no .wmodel");
    l->data = mapping->bytes + 8 + length;
    l->data_size = mapping->size - 8 - (size_t)length;
    WE_TRY(we_json_parse(&l->arena, (const char *)mapping->bytes + 8, (size_t)length, "the header", &header,
                         l->err));
    if (header->kind != WE_JSON_OBJECT)
        return bad(l, "header", "it must be an object");
    WE_TRY(read_graph(l, we_json_get(header, "__metadata__")));
    return read_entries(l, header);
}

we_status we_load_graph(const we_mapping *mapping, we_builder **out, we_error *err) {
    loader l = {.err = err};
    we_status status = read_container(&l, mapping);
    *out = l.builder;
    we_arena_free(&l.arena);
    return status;
}
