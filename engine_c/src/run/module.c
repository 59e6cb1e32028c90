/* Invariants:
 *  - `lock` guards a module's list of segments; it is not held while one runs.
 *  - A segment in use is never freed; of idle ones at most KEPT per first node are, least recently used out
 * first.
 *  - A value is released after the last node that reads it, itself or through a body. */
#include "run/module.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "run/explain.h"
#include "run/trials.h"

enum {
    KEPT = 4,
    SMALL = 4096, /* elements: what may decide a shape without being the first input */
};

static const size_t MAX_FIXED_BYTES = (size_t)64 << 20;

/* A stretch of nodes as one program. */
typedef struct segment {
    struct segment *next; /* most recently used first */
    we_arena arena;
    size_t start, end; /* nodes */
    we_graph
        graph; /* a view: values, inputs and outputs are the segment's, the rest is the module's graph's */
    we_view *shapes; /* of the inputs */
    int32_t *fixed;  /* values whose contents became constant */
    size_t fixed_count;
    we_prepared *prepared;
    we_workspace *idle;
    int32_t users;
} segment;

struct we_module {
    const we_graph *graph;
    pthread_mutex_t lock;
    segment *segments;
    int32_t *producer;   /* per value: the node that writes it, or -1 */
    size_t *last_use;    /* per value: the last node that reads it; SIZE_MAX for outputs */
    we_module ***bodies; /* per node, per attribute; NULL where there is none */
};

/* ---- Making ---- */

static void note_use(we_module *module, int32_t value, size_t node) {
    if (value >= 0 && module->last_use[value] < node)
        module->last_use[value] = node;
}

static void index_uses(we_module *module) {
    const we_graph *graph = module->graph;
    for (size_t v = 0; v < graph->value_count; v++)
        module->producer[v] = -1;
    for (size_t n = 0; n < graph->node_count; n++) {
        const we_node *node = &graph->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++)
            note_use(module, node->inputs[i], n);
        for (int32_t i = 0; i < node->capture_count; i++)
            note_use(module, node->captures[i], n);
        for (int32_t i = 0; i < node->output_count; i++) {
            note_use(module, node->outputs[i], n);
            if (node->outputs[i] >= 0)
                module->producer[node->outputs[i]] = (int32_t)n;
        }
    }
    for (size_t i = 0; i < graph->output_count; i++)
        module->last_use[graph->outputs[i]] = SIZE_MAX;
}

static we_status make_bodies(we_module *module, size_t n, we_error *err) {
    const we_node *node = &module->graph->nodes[n];
    if (!node->bodies)
        return WE_OK;
    module->bodies[n] = we_memory_new(node->attr_count * sizeof *module->bodies[n]);
    if (!module->bodies[n])
        return we_error_no_memory(err);
    for (size_t i = 0; i < node->attr_count; i++) {
        if (node->bodies[i])
            WE_TRY(we_module_new(node->bodies[i], &module->bodies[n][i], err));
    }
    return WE_OK;
}

we_status we_module_new(const we_graph *graph, we_module **out, we_error *err) {
    we_module *module = we_memory_new(sizeof *module);
    *out = NULL;
    if (!module)
        return we_error_no_memory(err);
    pthread_mutex_init(&module->lock, NULL);
    module->graph = graph;
    module->producer = we_memory_new(graph->value_count * sizeof *module->producer);
    module->last_use = we_memory_new(graph->value_count * sizeof *module->last_use);
    module->bodies = we_memory_new(graph->node_count * sizeof *module->bodies);
    we_status status =
        module->producer && module->last_use && module->bodies ? WE_OK : we_error_no_memory(err);
    if (status == WE_OK)
        index_uses(module);
    for (size_t n = 0; n < graph->node_count && status == WE_OK; n++)
        status = make_bodies(module, n, err);
    if (status != WE_OK)
        we_module_free(module);
    else
        *out = module;
    return status;
}

static void free_segment(segment *s) {
    while (s->idle) {
        we_workspace *next = s->idle->next;
        we_workspace_free(s->idle);
        s->idle = next;
    }
    we_prepared_free(s->prepared);
    we_arena arena = s->arena; /* the segment lies in it */
    we_arena_free(&arena);
}

void we_module_free(we_module *module) {
    if (!module)
        return;
    while (module->segments) {
        segment *next = module->segments->next;
        free_segment(module->segments);
        module->segments = next;
    }
    for (size_t n = 0; module->bodies && n < module->graph->node_count; n++) {
        for (size_t i = 0; module->bodies[n] && i < module->graph->nodes[n].attr_count; i++)
            we_module_free(module->bodies[n][i]); /* at most WE_MAX_NESTING deep */
        we_memory_free(module->bodies[n]);
    }
    we_memory_free(module->bodies);
    we_memory_free(module->last_use);
    we_memory_free(module->producer);
    pthread_mutex_destroy(&module->lock);
    we_memory_free(module);
}

bool we_module_is_dynamic(const we_module *module) {
    const we_graph *graph = module->graph;
    for (size_t i = 0; i < graph->input_count; i++) {
        const we_value *value = &graph->values[graph->inputs[i]];
        if (!value->typed || value->io != WE_IO_TENSOR || value->dtype == WE_STRING)
            return true;
    }
    for (size_t n = 0; n < graph->node_count; n++) {
        if (we_control_find(graph->nodes[n].op) || we_host_find(&graph->nodes[n], NULL))
            return true;
    }
    return false;
}

const we_graph *we_module_graph(const we_module *module) {
    return module->graph;
}

/* ---- Values ---- */

/* The value's datum, borrowed from the scope; a weight gets one when first asked for. */
static we_status get(we_flow *flow, const we_scope *scope, int32_t v, we_datum **out) {
    const we_value *value = &scope->module->graph->values[v];
    *out = scope->values[v];
    if (*out)
        return WE_OK;
    if (value->kind != WE_VALUE_WEIGHT)
        return we_error_set(flow->err, WE_INTERNAL, "the value '%.100s' is not there", value->name);
    we_view view = {.dtype = value->dtype, .rank = value->rank, .data = (void *)value->data}; /* only read */
    memcpy(view.dims, value->dims, sizeof view.dims);
    WE_TRY(we_datum_borrow(&view, out, flow->err));
    scope->values[v] = *out;
    return WE_OK;
}

static void drop(const we_scope *scope, int32_t v, size_t done) {
    if (v >= 0 && scope->module->last_use[v] < done) {
        we_datum_release(scope->values[v]);
        scope->values[v] = NULL;
    }
}

/* Release what nodes from `from` on read or wrote and no node from `done` on reads. */
static void drop_dead(const we_scope *scope, size_t from, size_t done) {
    for (size_t n = from; n < done; n++) {
        const we_node *node = &scope->module->graph->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++)
            drop(scope, node->inputs[i], done);
        for (int32_t i = 0; i < node->capture_count; i++)
            drop(scope, node->captures[i], done);
        for (int32_t i = 0; i < node->output_count; i++)
            drop(scope, node->outputs[i], done);
    }
}

/* ---- Segments ---- */

static bool is_outside(const we_module *module, size_t start, size_t end, int32_t v) {
    int32_t producer = module->producer[v];
    return producer < (int32_t)start || producer >= (int32_t)end;
}

/* May the node follow the segment that begins at `start`? Values written inside it are not known yet; what
 * they are is seen when the segment is prepared. */
static we_status may_follow(we_flow *flow, const we_scope *scope, size_t start, size_t n, we_datum **in,
                            bool *yes) {
    const we_node *node = &scope->module->graph->nodes[n];
    *yes = false;
    if (we_control_find(node->op))
        return WE_OK;
    for (int32_t i = 0; i < node->input_count; i++) {
        in[i] = NULL;
        if (node->inputs[i] < 0 || !is_outside(scope->module, start, n, node->inputs[i]))
            continue;
        WE_TRY(get(flow, scope, node->inputs[i], &in[i]));
        if (in[i]->kind != WE_DATUM_TENSOR)
            return WE_OK;
    }
    *yes = we_host_find(node, in) == NULL;
    return WE_OK;
}

static we_status longest(we_flow *flow, const we_scope *scope, size_t start, size_t *end) {
    we_datum *in[WE_MAX_NODE_INPUTS];
    bool yes = true;
    for (*end = start; *end < scope->module->graph->node_count; ++*end) {
        WE_TRY(may_follow(flow, scope, start, *end, in, &yes));
        if (!yes)
            break;
    }
    return WE_OK;
}

/* How much of what its first node reads a segment takes as constant. */
typedef enum fixing {
    FIX_NOTHING,
    FIX_PARAMETERS, /* small inputs past the first */
    FIX_ALL,
    FIX_COUNT,
} fixing;

static bool is_fixed(const we_node *first, const we_datum *datum, int32_t v, fixing level) {
    if (level == FIX_NOTHING || datum->view.dtype == WE_STRING)
        return false; /* texts live as long as a run, segments longer */
    int64_t most =
        level == FIX_PARAMETERS ? SMALL : (int64_t)(MAX_FIXED_BYTES / we_dtype_size(datum->view.dtype));
    if (we_view_elements(&datum->view) > most)
        return false;
    for (int32_t i = level == FIX_PARAMETERS; i < first->input_count; i++) {
        if (first->inputs[i] == v)
            return true;
    }
    return false;
}

static void state(we_value *value, const we_view *view) {
    value->typed = true;
    value->dtype = view->dtype;
    value->rank = view->rank;
    memcpy(value->dims, view->dims, sizeof value->dims);
    memset(value->symbols, 0, sizeof value->symbols);
}

/* Make value v an input or a constant of the segment's graph. */
static we_status import(we_flow *flow, const we_scope *scope, segment *s, int32_t v, fixing level) {
    we_datum *datum;
    we_value *value = &s->graph.values[v];
    WE_TRY(get(flow, scope, v, &datum));
    state(value, &datum->view);
    if (!is_fixed(&s->graph.nodes[0], datum, v, level)) {
        value->kind = WE_VALUE_INPUT;
        s->shapes[s->graph.input_count] = datum->view;
        s->graph.inputs[s->graph.input_count++] = v;
        return WE_OK;
    }
    value->kind = WE_VALUE_WEIGHT;
    value->data = we_arena_copy(&s->arena, datum->view.data, we_view_bytes(&datum->view));
    s->fixed[s->fixed_count++] = v;
    return value->data ? WE_OK : we_error_no_memory(flow->err);
}

static we_status collect(we_flow *flow, const we_scope *scope, segment *s, fixing level) {
    const we_module *module = scope->module;
    for (size_t n = s->start; n < s->end; n++) {
        const we_node *node = &module->graph->nodes[n];
        for (int32_t i = 0; i < node->input_count; i++) {
            int32_t v = node->inputs[i];
            if (v < 0 || !is_outside(module, s->start, s->end, v))
                continue;
            we_value_kind kind = s->graph.values[v].kind;
            bool seen = kind == WE_VALUE_INPUT && s->graph.values[v].hint;
            if (kind == WE_VALUE_WEIGHT || seen)
                continue;
            WE_TRY(import(flow, scope, s, v, level));
            s->graph.values[v].hint = true; /* marks it as seen: nothing else reads hints of inputs */
        }
        for (int32_t i = 0; i < node->output_count; i++) {
            int32_t v = node->outputs[i];
            if (v >= 0 && module->last_use[v] >= s->end)
                s->graph.outputs[s->graph.output_count++] = v;
        }
    }
    return WE_OK;
}

/* The nodes [start, end) as a graph of their own; not prepared. */
static we_status view_graph(we_flow *flow, const we_scope *scope, size_t start, size_t end, fixing level,
                            segment **out) {
    const we_graph *graph = scope->module->graph;
    we_arena arena = {0};
    size_t reads = 0, writes = 0;
    for (size_t n = start; n < end; n++) {
        reads += (size_t)graph->nodes[n].input_count;
        writes += (size_t)graph->nodes[n].output_count;
    }
    segment *s = we_arena_new(&arena, sizeof *s);
    if (!s)
        return we_error_no_memory(flow->err);
    s->arena = arena;
    s->start = start;
    s->end = end;
    s->graph = *graph;
    s->graph.nodes = graph->nodes + start;
    s->graph.node_count = end - start;
    s->graph.input_count = s->graph.output_count = 0;
    s->graph.values = we_arena_copy(&s->arena, graph->values, graph->value_count * sizeof *graph->values);
    s->graph.inputs = we_arena_new(&s->arena, reads * sizeof *s->graph.inputs);
    s->graph.outputs = we_arena_new(&s->arena, writes * sizeof *s->graph.outputs);
    s->shapes = we_arena_new(&s->arena, reads * sizeof *s->shapes);
    s->fixed = we_arena_new(&s->arena, reads * sizeof *s->fixed);
    we_status status = s->graph.values && s->graph.inputs && s->graph.outputs && s->shapes && s->fixed
                           ? WE_OK
                           : we_error_no_memory(flow->err);
    for (size_t v = 0; status == WE_OK && v < graph->value_count; v++)
        s->graph.values[v].hint = false;
    if (status == WE_OK)
        status = collect(flow, scope, s, level);
    if (status != WE_OK)
        free_segment(s);
    else
        *out = s;
    return status;
}

/* Prepare the nodes [start, end). Where a node is refused, *reached is how many come before it. */
static we_status try_segment(we_flow *flow, const we_scope *scope, size_t start, size_t end, fixing level,
                             segment **out, size_t *reached) {
    segment *s = NULL;
    *reached = 0;
    we_error_clear(flow->err);
    WE_TRY(view_graph(flow, scope, start, end, level, &s));
    we_status status =
        we_prepare_searched(&s->graph, flow->settings, s->shapes, &s->prepared, reached, flow->err);
    if (status != WE_OK)
        free_segment(s);
    else
        *out = s;
    return status;
}

/* The longest program that begins at `start`. */
static we_status make_segment(we_flow *flow, const we_scope *scope, size_t start, segment **out) {
    size_t end, reached;
    WE_TRY(longest(flow, scope, start, &end));
    we_status status = try_segment(flow, scope, start, end, FIX_NOTHING, out, &reached);
    if (status == WE_UNSUPPORTED && reached > 0)
        status = try_segment(flow, scope, start, start + reached, FIX_NOTHING, out, &reached);
    /* One node only: its constants may differ at each run, and what follows can then stay prepared. */
    for (int level = FIX_PARAMETERS; status == WE_UNSUPPORTED && level < FIX_COUNT; level++)
        status = try_segment(flow, scope, start, start + 1, (fixing)level, out, &reached);
    return status;
}

static bool same_type(const we_view *a, const we_view *b) {
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

/* Does a kept segment fit the values at hand? */
static bool matches(const we_scope *scope, const segment *s) {
    for (size_t i = 0; i < s->graph.input_count; i++) {
        const we_datum *datum = scope->values[s->graph.inputs[i]];
        if (!datum || datum->kind != WE_DATUM_TENSOR || !same_type(&datum->view, &s->shapes[i]))
            return false;
    }
    for (size_t i = 0; i < s->fixed_count; i++) {
        const we_value *value = &s->graph.values[s->fixed[i]];
        const we_datum *datum = scope->values[s->fixed[i]];
        we_view view = {.dtype = value->dtype, .rank = value->rank};
        memcpy(view.dims, value->dims, sizeof view.dims);
        if (!datum || datum->kind != WE_DATUM_TENSOR || !same_type(&datum->view, &view))
            return false;
        size_t bytes = we_view_bytes(&view);
        if (bytes && memcmp(datum->view.data, value->data, bytes) != 0)
            return false;
    }
    return true;
}

static void trim(we_module *module, size_t start) {
    int32_t seen = 0;
    for (segment **link = &module->segments; *link;) {
        segment *s = *link;
        if (s->start == start && ++seen > KEPT && s->users == 0) {
            *link = s->next;
            free_segment(s);
        } else {
            link = &s->next;
        }
    }
}

static we_status enter(we_flow *flow, const we_scope *scope, size_t start, segment **out,
                       we_workspace **space) {
    we_module *module = scope->module;
    we_status status = WE_OK;
    pthread_mutex_lock(&module->lock);
    segment **link = &module->segments;
    while (*link && ((*link)->start != start || !matches(scope, *link)))
        link = &(*link)->next;
    segment *s = *link;
    if (s)
        *link = s->next;
    else
        status = make_segment(flow, scope, start, &s);
    if (status == WE_OK) {
        s->next = module->segments;
        module->segments = s;
        s->users++;
        *space = s->idle;
        if (*space)
            s->idle = (*space)->next;
        trim(module, start);
        *out = s;
    }
    pthread_mutex_unlock(&module->lock);
    return status;
}

static void leave(we_module *module, segment *s, we_workspace *space) {
    pthread_mutex_lock(&module->lock);
    s->users--;
    if (space) {
        space->next = s->idle;
        s->idle = space;
    }
    pthread_mutex_unlock(&module->lock);
}

/* ---- Steps ---- */

static we_status check_room(const we_flow *flow, const segment *s) {
    const we_node *last = &s->graph.nodes[s->graph.node_count - 1];
    if (s->prepared->run_bytes <= flow->budget.limit - flow->budget.used)
        return WE_OK;
    return we_error_set_at(
        flow->err, WE_OUT_OF_MEMORY, we_op_name(last->op), last->name,
        "the nodes up to '%.100s' need %lld bytes beside the %lld in use, more than the session's "
        "memory limit of %lld: raise memory_limit if the model is to be trusted",
        last->name, (long long)s->prepared->run_bytes, (long long)flow->budget.used,
        (long long)flow->budget.limit);
}

static we_status run_program(we_flow *flow, const we_scope *scope, const segment *s,
                             const we_workspace *space, we_view *views, we_block **blocks) {
    WE_TRY(check_room(flow, s));
    for (size_t i = 0; i < s->graph.input_count; i++)
        views[i] = scope->values[s->graph.inputs[i]]->view;
    WE_TRY(we_prepared_run(s->prepared, flow->settings, flow->pool, space, views, blocks, flow->err));
    for (size_t i = 0; i < s->graph.output_count; i++) {
        int32_t v = s->graph.outputs[i];
        we_block *block = blocks[i];
        blocks[i] = NULL;
        WE_TRY(we_datum_adopt(&flow->budget, s->graph.values[v].name, block, &scope->values[v], flow->err));
    }
    return WE_OK;
}

static we_status run_segment(we_flow *flow, const we_scope *scope, size_t start, size_t *next) {
    segment *s;
    we_workspace *space = NULL;
    WE_TRY(enter(flow, scope, start, &s, &space));
    *next = s->end;
    we_status status = WE_OK;
    if (s->graph.output_count) { /* else nobody wants what it computes */
        we_view *views = we_memory_new(s->graph.input_count * sizeof *views);
        we_block **blocks = we_memory_new(s->graph.output_count * sizeof *blocks);
        if (!space)
            status = we_prepared_workspace(s->prepared, &space, flow->err);
        if (status == WE_OK)
            status = views && blocks ? run_program(flow, scope, s, space, views, blocks)
                                     : we_error_no_memory(flow->err);
        for (size_t i = 0; blocks && i < s->graph.output_count; i++)
            we_block_release(blocks[i]);
        we_memory_free(blocks);
        we_memory_free(views);
    }
    leave(scope->module, s, space);
    return status;
}

static we_status call(we_flow *flow, const we_scope *scope, size_t n, we_datum *const *in, we_datum **out,
                      bool *called) {
    const we_node *node = &scope->module->graph->nodes[n];
    we_control_fn control = we_control_find(node->op);
    we_host_fn function = control ? NULL : we_host_find(node, in);
    *called = control || function;
    if (control) /* its body's steps are timed each */
        return control(flow, scope, n, in, out);
    if (!function)
        return WE_OK;
    we_profile_event event = {
        .node = node->name, .op = we_op_name(node->op), .command = "host", .candidate = ""};
    int64_t recording;
    bool timed = we_profile_begin(flow->settings->profile, &event, &recording);
    we_host host = {.graph = scope->module->graph,
                    .node = node,
                    .in = in,
                    .out = out,
                    .budget = &flow->budget,
                    .texts = &flow->texts,
                    .err = flow->err};
    we_status status = function(&host);
    if (timed)
        we_profile_end(flow->settings->profile, &event, recording);
    return status;
}

static we_status check_tensors(const we_flow *flow, const we_node *node, we_datum *const *in) {
    for (int32_t i = 0; i < node->input_count; i++) {
        if (in[i] && in[i]->kind != WE_DATUM_TENSOR)
            return we_error_set_at(flow->err, WE_INVALID_MODEL, we_op_name(node->op), node->name,
                                   "input %d of %s must be a tensor, not a sequence or an empty optional",
                                   (int)i, we_op_name(node->op));
    }
    return WE_OK;
}

/* One node outside of programs, if that is where it runs. */
static we_status run_node(we_flow *flow, const we_scope *scope, size_t n, we_datum **in, we_datum **out,
                          bool *ran) {
    const we_node *node = &scope->module->graph->nodes[n];
    for (int32_t i = 0; i < node->input_count; i++) {
        in[i] = NULL;
        if (node->inputs[i] >= 0)
            WE_TRY(get(flow, scope, node->inputs[i], &in[i]));
    }
    we_status status = call(flow, scope, n, in, out, ran);
    if (status != WE_OK)
        we_error_locate(flow->err, we_op_name(node->op), node->name);
    else if (!*ran)
        status = check_tensors(flow, node, in);
    for (int32_t i = 0; i < node->output_count; i++) {
        if (status == WE_OK && node->outputs[i] >= 0)
            scope->values[node->outputs[i]] = out[i];
        else
            we_datum_release(out[i]);
    }
    return status;
}

static we_status run_step(we_flow *flow, const we_scope *scope, size_t n, size_t *next) {
    const we_node *node = &scope->module->graph->nodes[n];
    bool ran = false;
    we_datum **in = we_memory_new((size_t)(node->input_count + node->output_count) * sizeof *in);
    if (!in)
        return we_error_no_memory(flow->err);
    we_status status = run_node(flow, scope, n, in, in + node->input_count, &ran);
    we_memory_free(in);
    *next = n + 1;
    return status == WE_OK && !ran ? run_segment(flow, scope, n, next) : status;
}

/* ---- Runs ---- */

static we_status check_interrupt(const we_flow *flow) {
    return atomic_load_explicit(flow->interrupts, memory_order_relaxed) == flow->seen_interrupts
               ? WE_OK
               : we_error_set(flow->err, WE_INVALID_ARGUMENT, "the run was interrupted");
}

we_status we_flow_trip(we_flow *flow) {
    if (flow->trips++ >= flow->settings->max_trips)
        return we_error_set(
            flow->err, WE_OUT_OF_MEMORY,
            "the loops of one run pass the limit of %lld trips: raise max_trips if the model is to "
            "be trusted",
            (long long)flow->settings->max_trips);
    return check_interrupt(flow);
}

static we_status run_nodes(we_flow *flow, const we_scope *scope) {
    size_t count = scope->module->graph->node_count, next = 0;
    for (size_t n = 0; n < count; n = next) {
        WE_TRY(check_interrupt(flow));
        WE_TRY(run_step(flow, scope, n, &next));
        drop_dead(scope, n, next);
    }
    return WE_OK;
}

static we_status fill_scope(we_flow *flow, const we_scope *scope, we_datum *const *inputs) {
    const we_graph *graph = scope->module->graph;
    for (size_t i = 0; i < graph->input_count; i++)
        scope->values[graph->inputs[i]] = we_datum_retain(inputs[i]);
    for (size_t i = 0; scope->outer && i < graph->capture_count; i++) {
        we_datum *datum;
        if (graph->values[graph->captures[i].inner].kind != WE_VALUE_OUTER)
            continue;
        WE_TRY(get(flow, scope->outer, graph->captures[i].outer, &datum));
        scope->values[graph->captures[i].inner] = we_datum_retain(datum);
    }
    return WE_OK;
}

static we_status take_outputs(we_flow *flow, const we_scope *scope, we_datum **outputs) {
    const we_graph *graph = scope->module->graph;
    for (size_t i = 0; i < graph->output_count; i++) {
        we_datum *datum;
        WE_TRY(get(flow, scope, graph->outputs[i], &datum));
        outputs[i] = we_datum_retain(datum);
    }
    return WE_OK;
}

we_status we_body_run(we_module *body, we_flow *flow, const we_scope *outer, we_datum *const *inputs,
                      we_datum **outputs) {
    const we_graph *graph = body->graph;
    we_scope scope = {
        .module = body, .outer = outer, .values = we_memory_new(graph->value_count * sizeof(we_datum *))};
    memset(outputs, 0, graph->output_count * sizeof *outputs);
    if (!scope.values)
        return we_error_no_memory(flow->err);
    we_status status = fill_scope(flow, &scope, inputs);
    if (status == WE_OK)
        status = run_nodes(flow, &scope);
    if (status == WE_OK)
        status = take_outputs(flow, &scope, outputs);
    for (size_t i = 0; status != WE_OK && i < graph->output_count; i++) {
        we_datum_release(outputs[i]);
        outputs[i] = NULL;
    }
    for (size_t v = 0; v < graph->value_count; v++)
        we_datum_release(scope.values[v]);
    we_memory_free(scope.values);
    return status;
}

/* Texts of the caller become texts of the run. */
static we_status take_texts(we_flow *flow, const we_datum *from, we_datum **out) {
    int64_t count = we_view_elements(&from->view);
    WE_TRY(we_datum_make(&flow->budget, "an input", WE_STRING, from->view.rank, from->view.dims, out,
                         flow->err));
    for (int64_t i = 0; i < count; i++) {
        const char *text = ((const char *const *)from->view.data)[i];
        const char *own = we_texts_add(&flow->texts, text ? text : "", text ? strlen(text) : 0);
        if (!own) {
            we_datum_release(*out);
            *out = NULL;
            return we_error_set(flow->err, WE_OUT_OF_MEMORY,
                                "the texts of the inputs pass the session's memory limit");
        }
        ((const char **)(*out)->view.data)[i] = own;
    }
    return WE_OK;
}

static we_status take_input(we_flow *flow, we_datum *from, we_datum **out) {
    if (from->kind == WE_DATUM_TENSOR && from->view.dtype == WE_STRING)
        return take_texts(flow, from, out);
    if (from->kind != WE_DATUM_SEQUENCE) {
        *out = we_datum_retain(from);
        return WE_OK;
    }
    we_datum **items = we_memory_new(from->count * sizeof *items);
    we_status status = items ? WE_OK : we_error_no_memory(flow->err);
    for (size_t i = 0; i < from->count && status == WE_OK; i++)
        status = take_input(flow, from->items[i], &items[i]); /* a sequence holds no sequences */
    if (status == WE_OK)
        status = we_datum_new_sequence(items, from->count, out, flow->err);
    for (size_t i = 0; items && i < from->count; i++)
        we_datum_release(items[i]);
    we_memory_free(items);
    return status;
}

we_status we_module_run(we_module *module, we_flow *flow, we_datum *const *inputs, we_datum **outputs) {
    size_t count = module->graph->input_count;
    we_datum **taken = we_memory_new(count * sizeof *taken);
    we_status status = taken ? WE_OK : we_error_no_memory(flow->err);
    for (size_t i = 0; i < count && status == WE_OK; i++)
        status = take_input(flow, inputs[i], &taken[i]);
    if (status == WE_OK)
        status = we_body_run(module, flow, NULL, taken, outputs);
    for (size_t i = 0; taken && i < count; i++)
        we_datum_release(taken[i]);
    we_memory_free(taken);
    return status;
}

we_status we_scope_body(const we_scope *scope, we_flow *flow, size_t n, const char *name, we_module **out) {
    const we_node *node = &scope->module->graph->nodes[n];
    for (size_t i = 0; scope->module->bodies[n] && i < node->attr_count; i++) {
        *out = scope->module->bodies[n][i];
        if (*out && strcmp(node->attrs[i].name, name) == 0)
            return WE_OK;
    }
    return we_error_set(flow->err, WE_INVALID_MODEL, "attribute '%s' is required", name);
}

/* ---- Explaining ---- */

typedef struct text {
    char *bytes;
    size_t size, room;
    bool failed;
} text;

static void add(text *t, const char *bytes) {
    size_t length = strlen(bytes);
    if (!t->failed && t->size + length + 1 > t->room) {
        size_t room = 2 * (t->size + length + 1);
        char *bigger = we_memory_new_dirty(room);
        t->failed = bigger == NULL;
        if (bigger && t->size)
            memcpy(bigger, t->bytes, t->size);
        if (bigger) {
            we_memory_free(t->bytes);
            t->bytes = bigger;
            t->room = room;
        }
    }
    if (t->failed)
        return;
    memcpy(t->bytes + t->size, bytes, length + 1);
    t->size += length;
}

we_status we_module_explain(we_module *module, const we_settings *settings, char **out, we_error *err) {
    text t = {0};
    we_status status = WE_OK;
    add(&t, "{\"segments\":[");
    pthread_mutex_lock(&module->lock);
    for (const segment *s = module->segments; s && status == WE_OK; s = s->next) {
        char head[96], *program = NULL;
        snprintf(head, sizeof head,
                 "%s{\"first_node\":%zu,\"nodes\":%zu,\"program\":", s == module->segments ? "" : ",",
                 s->start, s->end - s->start);
        status = we_explain(&s->graph, settings, s->prepared, &program, err);
        if (status != WE_OK)
            break;
        add(&t, head);
        add(&t, program);
        add(&t, "}");
        we_memory_free(program);
    }
    pthread_mutex_unlock(&module->lock);
    add(&t, "]}");
    if (status == WE_OK && t.failed)
        status = we_error_no_memory(err);
    if (status != WE_OK)
        we_memory_free(t.bytes);
    else
        *out = t.bytes;
    return status;
}
