#include "run/quantised.h"

#include <math.h>
#include <string.h>

#include "base/dtype.h"

enum {
    MORE_VALUES = 2,  /* zero points of uint8 and int8 that are 0 */
    MORE_ATTRS = 2,   /* of an operator: min and max */
    MOST_INPUTS = 16, /* of a layer */
    NONE = -1,
};

/* What the layers are found by. `layer_at` has the operator of a layer in the place of its last node. */
typedef struct finder {
    const we_graph *graph; /* the given one, with the values of the other */
    we_quantised *to;
    int32_t *writer, *readers; /* per value: the node, and how many read it; outputs of the graph count */
    we_node *layer_at;
    bool failed; /* out of memory */
} finder;

/* A tensor that is dequantised: its bytes, scale and zero point; the node that does it. */
typedef struct source {
    int32_t bytes, scale, zero, node;
} source;

/* ---- Reading the graph ---- */

static const we_node *writer_of(const finder *f, int32_t value) {
    return value >= 0 && f->writer[value] >= 0 ? &f->graph->nodes[f->writer[value]] : NULL;
}

static int32_t input_of(const we_node *node, int32_t i) {
    return i < node->input_count ? node->inputs[i] : NONE;
}

static bool is_weight(const finder *f, int32_t value) {
    return value >= 0 && f->graph->values[value].kind == WE_VALUE_WEIGHT;
}

static int64_t count_of(const we_value *value) {
    int64_t count = 1;
    for (int32_t i = 0; i < value->rank; i++)
        count *= value->dims[i];
    return count;
}

/* A constant of one element. */
static bool is_number(const finder *f, int32_t value, we_dtype dtype) {
    return is_weight(f, value) && f->graph->values[value].dtype == dtype &&
           count_of(&f->graph->values[value]) == 1;
}

static float number(const finder *f, int32_t value, int64_t i) {
    float x;
    memcpy(&x, (const char *)f->graph->values[value].data + i * (int64_t)sizeof x, sizeof x);
    return x;
}

static bool is_byte(we_dtype dtype) {
    return dtype == WE_I8 || dtype == WE_U8;
}

/* The value of a zero point of that type that is 0. */
static int32_t zero_value(const finder *f, we_dtype dtype) {
    return (int32_t)f->graph->value_count + (dtype == WE_I8);
}

static bool is_plain(const we_node *node) {
    return we_node_int(node, "block_size", 0) == 0 && !we_node_attr(node, "output_dtype") &&
           !we_node_attr(node, "precision");
}

/* The zero point of a QuantizeLinear or DequantizeLinear: bytes of one; NONE where it has another. */
static int32_t zero_of(const finder *f, const we_node *node, we_dtype where_omitted) {
    int32_t zero = input_of(node, 2);
    if (zero < 0)
        return zero_value(f, where_omitted);
    return is_weight(f, zero) && is_byte(f->graph->values[zero].dtype) ? zero : NONE;
}

/* An image or matrix: one scale for all. What it is of is known by the zero point alone, so that must be
 * there. */
static bool find_source(const finder *f, int32_t value, source *out) {
    const we_node *node = writer_of(f, value);
    if (!node || node->op != WE_OP_DequantizeLinear || !is_plain(node))
        return false;
    *out = (source){node->inputs[0], node->inputs[1], input_of(node, 2), f->writer[value]};
    return is_number(f, out->scale, WE_F32) && !is_weight(f, out->bytes) && is_weight(f, out->zero) &&
           is_byte(f->graph->values[out->zero].dtype) && count_of(&f->graph->values[out->zero]) == 1;
}

/* Constant weights with a scale for all or for each entry of the axis. */
static bool find_weights(const finder *f, int32_t value, int64_t axis, source *out) {
    const we_node *node = writer_of(f, value);
    if (!node || node->op != WE_OP_DequantizeLinear || !is_plain(node) || !is_weight(f, node->inputs[0]) ||
        !is_weight(f, node->inputs[1]))
        return false;
    const we_value *weights = &f->graph->values[node->inputs[0]], *scale = &f->graph->values[node->inputs[1]];
    int64_t given = we_node_int(node, "axis", 1);
    given += given < 0 ? weights->rank : 0;
    *out = (source){node->inputs[0], node->inputs[1], zero_of(f, node, weights->dtype), f->writer[value]};
    return is_byte(weights->dtype) && scale->dtype == WE_F32 && out->zero >= 0 && weights->rank >= 2 &&
           (count_of(scale) == 1 || (given == axis && scale->rank == 1));
}

/* Does int32 stand for the same as the sums it is to be added to? */
static bool is_scale_of_sums(const finder *f, int32_t scale, const source *x, const source *w) {
    int64_t count = count_of(&f->graph->values[scale]), weights = count_of(&f->graph->values[w->scale]);
    float in = number(f, x->scale, 0);
    if (weights != 1 && weights != count)
        return false;
    for (int64_t i = 0; i < count; i++) {
        float wanted = in * number(f, w->scale, weights > 1 ? i : 0);
        if (!(fabsf(number(f, scale, i) - wanted) <= 1e-6f * wanted))
            return false;
    }
    return true;
}

static bool is_all_zero(const finder *f, int32_t value) {
    if (value < 0)
        return true;
    const we_value *v = &f->graph->values[value];
    const char *bytes = v->data;
    bool zero = v->kind == WE_VALUE_WEIGHT;
    for (int64_t i = 0; zero && i < count_of(v) * (int64_t)we_dtype_size(v->dtype); i++)
        zero = bytes[i] == 0;
    return zero;
}

/* A bias of one entry per channel: the int32 behind it where it is added to sums as it is, else as float32.
 */
static bool find_bias(const finder *f, int32_t value, int64_t channels, const source *x, const source *w,
                      int32_t *out) {
    *out = value;
    if (value < 0)
        return true;
    const we_node *node = writer_of(f, value);
    int32_t stored = node && node->op == WE_OP_DequantizeLinear && is_plain(node) ? node->inputs[0] : value;
    if (!is_weight(f, stored) || f->graph->values[stored].rank != 1 ||
        f->graph->values[stored].dims[0] != channels)
        return false;
    if (stored == value)
        return f->graph->values[stored].dtype == WE_F32;
    if (f->graph->values[stored].dtype == WE_I32 && is_weight(f, node->inputs[1]) &&
        f->graph->values[node->inputs[1]].dtype == WE_F32 && is_all_zero(f, input_of(node, 2)) &&
        is_scale_of_sums(f, node->inputs[1], x, w))
        *out = stored;
    return true;
}

/* ---- Making layers ---- */

typedef struct layer {
    we_node node;
    int32_t inputs[MOST_INPUTS];
    we_quantised_layer found;
    source out; /* of the result: its scale and zero point; `bytes` is the value */
    double low, high;
} layer;

static void add_part(layer *l, int32_t node) {
    if (l->found.part_count < WE_LAYER_PARTS)
        l->found.parts[l->found.part_count++] = node;
}

static void set_inputs(layer *l, int32_t count, const int32_t *inputs) {
    memcpy(l->inputs, inputs, (size_t)count * sizeof *inputs);
    while (count > 0 && l->inputs[count - 1] < 0)
        count--;
    l->node.input_count = count;
}

static bool is_same(const finder *f, const source *a, const source *b) {
    const we_value *x = &f->graph->values[a->zero], *y = &f->graph->values[b->zero];
    return number(f, a->scale, 0) == number(f, b->scale, 0) && x->dtype == y->dtype &&
           *(const char *)x->data == *(const char *)y->data;
}

static bool as_conv(const finder *f, const we_node *node, layer *l) {
    source x, w;
    int32_t bias;
    if (!find_source(f, node->inputs[0], &x) || !find_weights(f, node->inputs[1], 0, &w) ||
        !find_bias(f, input_of(node, 2), f->graph->values[w.bytes].dims[0], &x, &w, &bias))
        return false;
    const int32_t inputs[] = {x.bytes, x.scale,      x.zero,      w.bytes, w.scale,
                              w.zero,  l->out.scale, l->out.zero, bias};
    l->node.op = WE_OP_QLinearConv;
    set_inputs(l, 9, inputs);
    add_part(l, x.node);
    return true;
}

static bool as_product(const finder *f, const we_node *node, layer *l) {
    bool gemm = node->op == WE_OP_Gemm, turned = gemm && we_node_int(node, "transB", 0) != 0;
    int64_t axis = turned ? 0 : 1;
    source x, w;
    int32_t bias;
    if (gemm && (we_node_int(node, "transA", 0) || we_node_float(node, "alpha", 1) != 1 ||
                 we_node_float(node, "beta", 1) != 1))
        return false;
    if (!find_source(f, node->inputs[0], &x) || !find_weights(f, node->inputs[1], axis, &w) ||
        f->graph->values[w.bytes].rank != 2 ||
        !find_bias(f, gemm ? input_of(node, 2) : NONE, f->graph->values[w.bytes].dims[axis], &x, &w, &bias))
        return false;
    const int32_t inputs[] = {x.bytes, x.scale,      x.zero,      w.bytes, w.scale,
                              w.zero,  l->out.scale, l->out.zero, bias};
    l->node.op = WE_OP_QLinearMatMul;
    set_inputs(l, 9, inputs);
    add_part(l, x.node);
    return true;
}

static bool as_sum(const finder *f, const we_node *node, layer *l) {
    source a, b;
    if (!find_source(f, node->inputs[0], &a) || !find_source(f, node->inputs[1], &b))
        return false;
    const int32_t inputs[] = {a.bytes, a.scale, a.zero, b.bytes, b.scale, b.zero, l->out.scale, l->out.zero};
    l->node.op = WE_OP_QLinearAdd;
    set_inputs(l, 8, inputs);
    add_part(l, a.node);
    add_part(l, b.node);
    return true;
}

static bool is_limited(const layer *l) {
    return isfinite(l->low) || isfinite(l->high);
}

static bool as_mean(const finder *f, const we_node *node, layer *l) {
    source x;
    if (is_limited(l) || !find_source(f, node->inputs[0], &x))
        return false;
    const int32_t inputs[] = {x.bytes, x.scale, x.zero, l->out.scale, l->out.zero};
    l->node.op = WE_OP_QLinearGlobalAveragePool;
    set_inputs(l, 5, inputs);
    add_part(l, x.node);
    return true;
}

/* What moves elements, or takes the largest, does so with bytes where they stand for the same before and
 * after. */
static bool as_itself(const finder *f, const we_node *node, layer *l) {
    int32_t images = node->op == WE_OP_Concat ? node->input_count : 1;
    if (is_limited(l) || node->output_count != 1 || node->input_count > MOST_INPUTS)
        return false;
    l->node.op = node->op;
    set_inputs(l, node->input_count, node->inputs);
    for (int32_t i = 0; i < images; i++) {
        source x;
        if (!find_source(f, node->inputs[i], &x) || !is_same(f, &x, &l->out))
            return false;
        l->inputs[i] = x.bytes;
        add_part(l, x.node);
    }
    return true;
}

static const struct {
    int32_t op;
    bool (*make)(const finder *f, const we_node *node, layer *l);
} FORMS[] = {
    {WE_OP_Conv, as_conv},        {WE_OP_Gemm, as_product},           {WE_OP_MatMul, as_product},
    {WE_OP_Add, as_sum},          {WE_OP_GlobalAveragePool, as_mean}, {WE_OP_MaxPool, as_itself},
    {WE_OP_Concat, as_itself},    {WE_OP_Reshape, as_itself},         {WE_OP_Flatten, as_itself},
    {WE_OP_Transpose, as_itself}, {WE_OP_Squeeze, as_itself},         {WE_OP_Unsqueeze, as_itself},
};

/* Which attributes of the operator the one on bytes has, and its limits. */
static bool set_attrs(finder *f, const we_node *node, layer *l) {
    we_attr *attrs = we_arena_new(&f->to->arena, (node->attr_count + MORE_ATTRS) * sizeof *attrs);
    const struct {
        const char *name;
        double value;
    } limits[MORE_ATTRS] = {{"min", l->low}, {"max", l->high}};
    if (!attrs)
        return !(f->failed = true);
    l->node.attrs = attrs;
    for (size_t i = 0; i < node->attr_count; i++) {
        if (we_op_attr(l->node.op, node->attrs[i].name))
            attrs[l->node.attr_count++] = node->attrs[i];
    }
    for (int i = 0; i < MORE_ATTRS; i++) {
        if (isfinite(limits[i].value))
            attrs[l->node.attr_count++] =
                (we_attr){.name = limits[i].name, .kind = WE_ATTR_FLOAT, .real = limits[i].value};
    }
    return true;
}

/* Through an activation that limits what it is given, to the operator before it. */
static const we_node *through_limits(const finder *f, const we_node *node, layer *l) {
    bool clip = node && node->op == WE_OP_Clip;
    l->low = -INFINITY;
    l->high = INFINITY;
    if (!node || (node->op != WE_OP_Relu && !clip))
        return node;
    for (int32_t i = 1; clip && i <= 2; i++) {
        int32_t bound = input_of(node, i);
        if (bound >= 0 && !is_number(f, bound, WE_F32))
            return NULL;
        if (bound >= 0)
            *(i == 1 ? &l->low : &l->high) = number(f, bound, 0);
    }
    if (!clip)
        l->low = 0;
    int32_t value = node->inputs[0];
    if (f->readers[value] != 1 || !writer_of(f, value))
        return NULL;
    add_part(l, f->writer[value]);
    return writer_of(f, value);
}

/* The layer that ends with this QuantizeLinear. */
static bool find_layer(finder *f, int32_t index, layer *l) {
    const we_node *last = &f->graph->nodes[index];
    if (last->op != WE_OP_QuantizeLinear || !is_plain(last) || !is_number(f, last->inputs[1], WE_F32))
        return false;
    *l = (layer){.found = {.node = index},
                 .out = {last->outputs[0], last->inputs[1], input_of(last, 2), index},
                 .node = {.output_count = 1, .outputs = last->outputs}};
    int32_t value = last->inputs[0];
    if (!is_weight(f, l->out.zero) || !is_byte(f->graph->values[l->out.zero].dtype) ||
        count_of(&f->graph->values[l->out.zero]) != 1 || f->readers[value] != 1 || !writer_of(f, value))
        return false;
    add_part(l, index);
    add_part(l, f->writer[value]);
    const we_node *node = through_limits(f, writer_of(f, value), l);
    for (size_t i = 0; node && i < sizeof FORMS / sizeof *FORMS; i++) {
        if (FORMS[i].op != node->op)
            continue;
        l->node.name = node->name;
        return FORMS[i].make(f, node, l) && set_attrs(f, node, l);
    }
    return false;
}

static void find_layers(finder *f) {
    we_quantised *to = f->to;
    for (size_t n = 0; n < f->graph->node_count && !f->failed; n++) {
        layer l;
        if (!find_layer(f, (int32_t)n, &l))
            continue;
        l.node.inputs = we_arena_copy(&to->arena, l.inputs, (size_t)l.node.input_count * sizeof *l.inputs);
        f->failed = f->failed || !l.node.inputs;
        f->layer_at[n] = l.node;
        to->layers[to->layer_count++] = l.found;
    }
}

static void count_links(finder *f) {
    const we_graph *g = f->graph;
    memset(f->writer, NONE, (g->value_count + MORE_VALUES) * sizeof *f->writer);
    for (size_t n = 0; n < g->node_count; n++) {
        const we_node *node = &g->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++)
            f->readers[node->inputs[i] < 0 ? 0 : node->inputs[i]] += node->inputs[i] >= 0;
        for (int32_t i = 0; i < node->capture_count; i++)
            f->readers[node->captures[i]] += 2; /* in any way */
        for (int32_t i = 0; i < node->output_count; i++) {
            if (node->outputs[i] >= 0)
                f->writer[node->outputs[i]] = (int32_t)n;
        }
    }
    for (size_t i = 0; i < g->output_count; i++)
        f->readers[g->outputs[i]] += 2;
}

/* ---- The graph ---- */

/* Nodes from the last to the first: who is read by none that lives is dead. */
static void bury(we_quantised *q) {
    we_graph *g = &q->graph;
    bool *read = q->read;
    memset(read, 0, g->value_count);
    for (size_t i = 0; i < g->output_count; i++)
        read[g->outputs[i]] = true;
    for (size_t n = g->node_count; n-- > 0;) {
        we_node *node = &g->nodes[n];
        bool lives = node->capture_count > 0;
        for (int32_t i = 0; i < node->output_count; i++)
            lives = lives || (node->outputs[i] >= 0 && read[node->outputs[i]]);
        if (!lives) {
            node->input_count = node->output_count = 0;
            continue;
        }
        for (int32_t i = 0; i < node->input_count; i++) {
            if (node->inputs[i] >= 0)
                read[node->inputs[i]] = true;
        }
        for (int32_t i = 0; i < node->capture_count; i++)
            read[node->captures[i]] = true;
    }
}

void we_quantised_rewrite(we_quantised *q) {
    memcpy(q->graph.nodes, q->given->nodes, q->given->node_count * sizeof *q->graph.nodes);
    for (size_t i = 0; i < q->layer_count; i++) {
        const we_quantised_layer *layer = &q->layers[i];
        if (!layer->kept)
            q->graph.nodes[layer->node] = q->operators[layer->node];
    }
    bury(q);
}

/* The given graph's values, and zero points that are 0 for where they are omitted. */
static we_value *extend_values(we_quantised *q, const we_graph *graph) {
    static const _Alignas(16) uint8_t NOTHING[16] = {0};
    we_value *values = we_arena_new(&q->arena, (graph->value_count + MORE_VALUES) * sizeof *values);
    if (!values)
        return NULL;
    memcpy(values, graph->values, graph->value_count * sizeof *values);
    for (int i = 0; i < MORE_VALUES; i++)
        values[graph->value_count + (size_t)i] = (we_value){
            .name = "", .kind = WE_VALUE_WEIGHT, .typed = true, .dtype = i ? WE_I8 : WE_U8, .data = NOTHING};
    return values;
}

static we_status build(we_quantised *q, const we_graph *graph, we_error *err) {
    size_t nodes = graph->node_count, values = graph->value_count + MORE_VALUES;
    we_graph view = *graph;
    finder f = {.graph = &view, .to = q};
    q->given = graph;
    q->graph = *graph;
    q->graph.arena = (we_arena){0};
    view.values = q->graph.values = extend_values(q, graph);
    q->graph.value_count = values;
    q->graph.nodes = we_arena_new(&q->arena, nodes * sizeof *q->graph.nodes);
    q->operators = f.layer_at = we_arena_new(&q->arena, nodes * sizeof *f.layer_at);
    q->layers = we_arena_new(&q->arena, nodes * sizeof *q->layers);
    q->read = we_arena_new(&q->arena, values);
    f.writer = we_arena_new(&q->arena, values * sizeof *f.writer);
    f.readers = we_arena_new(&q->arena, values * sizeof *f.readers);
    if (!q->graph.values || !q->graph.nodes || !f.layer_at || !q->layers || !q->read || !f.writer ||
        !f.readers)
        return we_error_no_memory(err);
    count_links(&f);
    find_layers(&f);
    return f.failed ? we_error_no_memory(err) : WE_OK;
}

/* What is differentiated is left as it is. */
static bool has_quantised(const we_graph *graph) {
    bool quantised = false;
    for (size_t n = 0; n < graph->node_count; n++) {
        if (graph->nodes[n].op == WE_OP_Gradient)
            return false;
        quantised = quantised || graph->nodes[n].op == WE_OP_QuantizeLinear;
    }
    return quantised;
}

we_status we_quantised_new(const we_graph *graph, we_quantised **out, we_error *err) {
    *out = NULL;
    if (!has_quantised(graph))
        return WE_OK;
    we_quantised *q = we_memory_new(sizeof *q);
    we_status status = q ? build(q, graph, err) : we_error_no_memory(err);
    if (status == WE_OK && q->layer_count > 0) {
        we_quantised_rewrite(q);
        *out = q;
        return WE_OK;
    }
    we_quantised_free(q);
    return status;
}

void we_quantised_free(we_quantised *quantised) {
    if (!quantised)
        return;
    we_arena_free(&quantised->arena);
    we_memory_free(quantised);
}
