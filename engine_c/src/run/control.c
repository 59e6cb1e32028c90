/* Control flow: operators that run bodies. A body is a module; its values live for one pass. */
#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/ops.h"
#include "run/module.h"

static we_status bad(const we_flow *flow, const char *problem) {
    return we_error_set(flow->err, WE_INVALID_MODEL, "%s", problem);
}

static const we_node *node_of(const we_scope *scope, size_t n) {
    return &we_module_graph(scope->module)->nodes[n];
}

static void release_all(we_datum **items, size_t count) {
    for (size_t i = 0; items && i < count; i++) {
        we_datum_release(items[i]);
        items[i] = NULL;
    }
}

static we_status scalar(we_flow *flow, we_dtype dtype, int64_t value, we_datum **out) {
    WE_TRY(we_datum_make(&flow->budget, "a loop counter", dtype, 0, NULL, out, flow->err));
    if (dtype == WE_BOOL)
        *(uint8_t *)(*out)->view.data = value != 0;
    else
        *(int64_t *)(*out)->view.data = value;
    return WE_OK;
}

static we_status truth(const we_flow *flow, const we_datum *datum, bool *out) {
    if (!datum || datum->kind != WE_DATUM_TENSOR || datum->view.dtype != WE_BOOL ||
        we_view_elements(&datum->view) != 1)
        return bad(flow, "a condition must be one BOOL");
    *out = *(const uint8_t *)datum->view.data != 0;
    return WE_OK;
}

/* ---- If ---- */

static we_status run_if(we_flow *flow, const we_scope *scope, size_t n, we_datum *const *in, we_datum **out) {
    we_module *body;
    bool yes = false;
    WE_TRY(truth(flow, in[0], &yes));
    WE_TRY(we_scope_body(scope, flow, n, yes ? "then_branch" : "else_branch", &body));
    const we_graph *graph = we_module_graph(body);
    size_t wanted = (size_t)node_of(scope, n)->output_count;
    if (graph->input_count != 0 || graph->output_count < wanted)
        return bad(flow, "a branch takes no inputs and has one output per output of the node");
    we_datum **results = we_memory_new(graph->output_count * sizeof *results);
    if (!results)
        return we_error_no_memory(flow->err);
    we_status status = we_body_run(body, flow, scope, NULL, results);
    for (size_t i = 0; i < graph->output_count; i++) {
        if (status == WE_OK && i < wanted)
            out[i] = results[i];
        else
            we_datum_release(results[i]);
    }
    we_memory_free(results);
    return status;
}

/* ---- Rows: what passes of a body leave, to become one tensor ---- */

typedef struct rows {
    we_datum **items;
    size_t count, room;
} rows;

static we_status add_row(const we_flow *flow, rows *r, we_datum *item) {
    if (!we_memory_grow((void **)&r->items, &r->room, r->count, sizeof *r->items))
        return we_error_no_memory(flow->err);
    r->items[r->count++] = we_datum_retain(item);
    return WE_OK;
}

static void free_rows(rows *list, size_t count) {
    for (size_t i = 0; list && i < count; i++) {
        release_all(list[i].items, list[i].count);
        we_memory_free(list[i].items);
    }
    we_memory_free(list);
}

/* The type of a row: the first one's, or what the body's output is said to be if it never ran. */
static we_status row_type(const we_flow *flow, const rows *r, const we_value *stated, we_view *out) {
    *out = (we_view){.dtype = WE_F32};
    if (r->count == 0) {
        if (stated->hint) {
            out->dtype = stated->dtype;
            out->rank = stated->rank;
        }
        for (int32_t i = 0; i < out->rank; i++)
            out->dims[i] = stated->dims[i] < 0 ? 0 : stated->dims[i];
        return WE_OK;
    }
    *out = r->items[0]->view;
    for (size_t i = 0; i < r->count; i++) {
        const we_datum *item = r->items[i];
        if (item->kind != WE_DATUM_TENSOR || item->view.dtype != out->dtype || item->view.rank != out->rank ||
            memcmp(item->view.dims, out->dims, (size_t)out->rank * sizeof *out->dims) != 0)
            return bad(flow, "a scan output must be a tensor of the same type and shape at each pass");
    }
    return WE_OK;
}

/* Join the rows along a new axis, the last first where `backwards`. */
static we_status join(we_flow *flow, const rows *r, const we_value *stated, int64_t axis, bool backwards,
                      we_datum **out) {
    we_view y;
    WE_TRY(row_type(flow, r, stated, &y));
    axis += axis < 0 ? y.rank + 1 : 0;
    if (y.rank < 0 || y.rank >= WE_MAX_RANK || axis < 0 || axis > y.rank)
        return bad(flow, "the axis of a scan output is illegal, or its rank too high");
    size_t outer = 1, run = we_dtype_size(y.dtype);
    for (int32_t i = 0; i < axis; i++)
        outer *= (size_t)y.dims[i];
    for (int32_t i = (int32_t)axis; i < y.rank; i++)
        run *= (size_t)y.dims[i];
    memmove(y.dims + axis + 1, y.dims + axis, (size_t)(y.rank - axis) * sizeof *y.dims);
    y.dims[axis] = (int64_t)r->count;
    y.rank++;
    WE_TRY(we_datum_make(&flow->budget, stated->name, y.dtype, y.rank, y.dims, out, flow->err));
    char *to = (*out)->view.data;
    for (size_t o = 0; o < outer && run; o++) {
        for (size_t i = 0; i < r->count; i++, to += run)
            memcpy(to, (const char *)r->items[backwards ? r->count - 1 - i : i]->view.data + o * run, run);
    }
    return WE_OK;
}

/* Slice t of x along the axis, without it. */
static we_status slice(we_flow *flow, const we_view *x, int32_t axis, int64_t t, we_datum **out) {
    we_view y = *x;
    we_along all = we_view_along(x, axis);
    size_t run = (size_t)all.inner * we_dtype_size(x->dtype);
    memmove(y.dims + axis, y.dims + axis + 1, (size_t)(y.rank - axis - 1) * sizeof *y.dims);
    y.rank--;
    WE_TRY(we_datum_make(&flow->budget, "a slice", y.dtype, y.rank, y.dims, out, flow->err));
    for (int64_t o = 0; o < all.outer && run; o++)
        memcpy((char *)(*out)->view.data + (size_t)o * run,
               (const char *)x->data + (size_t)(o * all.n + t) * run, run);
    return WE_OK;
}

/* ---- Passes: what Loop and Scan have in common ---- */

/* `in` and `results` belong to one pass; `state` passes from one to the next. `fixed` counts what comes
 * before the state: in the body's inputs, and in its outputs. */
typedef struct passes {
    we_module *body;
    const we_graph *graph;
    we_datum **in, **results, **state;
    size_t state_count, fixed_in, fixed_out, scan_count;
    rows *scans;
} passes;

static we_status open_passes(we_flow *flow, const we_scope *scope, size_t n, size_t state_count,
                             size_t fixed_in, size_t fixed_out, size_t scan_inputs, we_datum *const *state,
                             passes *p) {
    *p = (passes){.state_count = state_count, .fixed_in = fixed_in, .fixed_out = fixed_out};
    WE_TRY(we_scope_body(scope, flow, n, "body", &p->body));
    p->graph = we_module_graph(p->body);
    if (p->graph->input_count != fixed_in + state_count + scan_inputs ||
        p->graph->output_count < fixed_out + state_count)
        return bad(flow, "the body's inputs and outputs do not fit those of the node");
    p->scan_count = p->graph->output_count - fixed_out - state_count;
    if ((size_t)node_of(scope, n)->output_count > state_count + p->scan_count)
        return bad(flow, "the node has more outputs than its body");
    p->in = we_memory_new(p->graph->input_count * sizeof *p->in);
    p->results = we_memory_new(p->graph->output_count * sizeof *p->results);
    p->state = we_memory_new(state_count * sizeof *p->state);
    p->scans = we_memory_new(p->scan_count * sizeof *p->scans);
    if (!p->in || !p->results || !p->state || !p->scans)
        return we_error_no_memory(flow->err);
    for (size_t i = 0; i < state_count; i++) {
        if (!state[i])
            return bad(flow, "an initial value is missing");
        p->state[i] = we_datum_retain(state[i]);
    }
    return WE_OK;
}

static void close_passes(passes *p) {
    release_all(p->in, p->graph ? p->graph->input_count : 0);
    release_all(p->results, p->graph ? p->graph->output_count : 0);
    release_all(p->state, p->state_count);
    free_rows(p->scans, p->scan_count);
    we_memory_free(p->in);
    we_memory_free(p->results);
    we_memory_free(p->state);
}

/* One pass. The caller has filled `in` before and after the state; what the body gives before the state stays
 * in `results`. */
static we_status pass(we_flow *flow, const we_scope *scope, passes *p) {
    release_all(p->results, p->graph->output_count);
    WE_TRY(we_flow_trip(flow));
    for (size_t i = 0; i < p->state_count; i++) {
        p->in[p->fixed_in + i] = p->state[i];
        p->state[i] = NULL;
    }
    we_status status = we_body_run(p->body, flow, scope, p->in, p->results);
    release_all(p->in, p->graph->input_count);
    WE_TRY(status);
    for (size_t i = 0; i < p->state_count; i++) {
        p->state[i] = p->results[p->fixed_out + i];
        p->results[p->fixed_out + i] = NULL;
    }
    for (size_t i = 0; i < p->scan_count; i++)
        WE_TRY(add_row(flow, &p->scans[i], p->results[p->fixed_out + p->state_count + i]));
    return WE_OK;
}

static const we_value *scan_value(const passes *p, size_t i) {
    return &p->graph->values[p->graph->outputs[p->fixed_out + p->state_count + i]];
}

/* The state is the node's first outputs. */
static void give_state(const passes *p, size_t outputs, we_datum **out) {
    for (size_t i = 0; i < p->state_count && i < outputs; i++) {
        out[i] = p->state[i];
        p->state[i] = NULL;
    }
}

/* ---- Loop ---- */

static we_status trip_count(const we_flow *flow, const we_datum *datum, int64_t *out) {
    *out = INT64_MAX;
    if (!datum)
        return WE_OK;
    if (datum->kind != WE_DATUM_TENSOR || datum->view.dtype != WE_I64 || we_view_elements(&datum->view) != 1)
        return bad(flow, "the trip count must be one I64");
    *out = *(const int64_t *)datum->view.data;
    return WE_OK;
}

static we_status loop_passes(we_flow *flow, const we_scope *scope, passes *p, int64_t trips, bool going) {
    for (int64_t t = 0; t < trips && going; t++) {
        WE_TRY(scalar(flow, WE_I64, t, &p->in[0]));
        WE_TRY(scalar(flow, WE_BOOL, going, &p->in[1]));
        WE_TRY(pass(flow, scope, p));
        WE_TRY(truth(flow, p->results[0], &going));
    }
    return WE_OK;
}

static we_status run_loop(we_flow *flow, const we_scope *scope, size_t n, we_datum *const *in,
                          we_datum **out) {
    const we_node *node = node_of(scope, n);
    size_t given = (size_t)node->input_count, outputs = (size_t)node->output_count;
    int64_t trips;
    bool going = true;
    passes p;
    WE_TRY(trip_count(flow, given > 0 ? in[0] : NULL, &trips));
    if (given > 1 && in[1])
        WE_TRY(truth(flow, in[1], &going));
    we_status status =
        open_passes(flow, scope, n, given > 2 ? given - 2 : 0, 2, 1, 0, in + (given > 2 ? 2 : 0), &p);
    if (status == WE_OK)
        status = loop_passes(flow, scope, &p, trips, going);
    for (size_t i = p.state_count; status == WE_OK && i < outputs; i++)
        status =
            join(flow, &p.scans[i - p.state_count], scan_value(&p, i - p.state_count), 0, false, &out[i]);
    if (status == WE_OK)
        give_state(&p, outputs, out);
    close_passes(&p);
    return status;
}

/* ---- Scan ---- */

static int64_t list_item(const we_node *node, const char *name, size_t i) {
    const we_attr *attr = we_node_attr(node, name);
    return attr && i < attr->count ? attr->integers[i] : 0;
}

/* The scanned axis of each scan input, and how many slices all have. */
static we_status scan_length(const we_flow *flow, const we_node *node, we_datum *const *scanned, size_t count,
                             int32_t *axes, int64_t *length) {
    *length = -1;
    for (size_t i = 0; i < count; i++) {
        if (!scanned[i] || scanned[i]->kind != WE_DATUM_TENSOR)
            return bad(flow, "a scan input must be a tensor");
        const we_view *x = &scanned[i]->view;
        int64_t axis = list_item(node, "scan_input_axes", i);
        axis += axis < 0 ? x->rank : 0;
        if (axis < 0 || axis >= x->rank)
            return bad(flow, "the axis of a scan input is outside its rank");
        axes[i] = (int32_t)axis;
        if (*length >= 0 && x->dims[axis] != *length)
            return bad(flow, "the scan inputs have different lengths");
        *length = x->dims[axis];
    }
    return WE_OK;
}

static we_status scan_passes(we_flow *flow, const we_scope *scope, const we_node *node, passes *p,
                             we_datum *const *scanned, size_t count, const int32_t *axes, int64_t length) {
    for (int64_t t = 0; t < length; t++) {
        for (size_t i = 0; i < count; i++) {
            int64_t at = list_item(node, "scan_input_directions", i) ? length - 1 - t : t;
            WE_TRY(slice(flow, &scanned[i]->view, axes[i], at, &p->in[p->state_count + i]));
        }
        WE_TRY(pass(flow, scope, p));
    }
    return WE_OK;
}

static we_status run_scan(we_flow *flow, const we_scope *scope, size_t n, we_datum *const *in,
                          we_datum **out) {
    const we_node *node = node_of(scope, n);
    int64_t scanned = we_node_int(node, "num_scan_inputs", 0), length = 0;
    size_t outputs = (size_t)node->output_count;
    int32_t axes[WE_MAX_NODE_INPUTS];
    passes p;
    if (scanned < 1 || scanned > node->input_count)
        return bad(flow, "num_scan_inputs is required and at most the number of inputs");
    size_t states = (size_t)(node->input_count - scanned);
    WE_TRY(scan_length(flow, node, in + states, (size_t)scanned, axes, &length));
    we_status status = open_passes(flow, scope, n, states, 0, 0, (size_t)scanned, in, &p);
    if (status == WE_OK)
        status = scan_passes(flow, scope, node, &p, in + states, (size_t)scanned, axes, length);
    for (size_t i = states; status == WE_OK && i < outputs; i++)
        status = join(flow, &p.scans[i - states], scan_value(&p, i - states),
                      list_item(node, "scan_output_axes", i - states),
                      list_item(node, "scan_output_directions", i - states) != 0, &out[i]);
    if (status == WE_OK)
        give_state(&p, outputs, out);
    close_passes(&p);
    return status;
}

/* ---- SequenceMap ---- */

static we_status map_passes(we_flow *flow, const we_scope *scope, const we_node *node, passes *p,
                            we_datum *const *in) {
    for (size_t t = 0; t < in[0]->count; t++) {
        for (int32_t i = 0; i < node->input_count; i++) {
            if (!in[i] || (in[i]->kind == WE_DATUM_SEQUENCE && in[i]->count != in[0]->count))
                return bad(flow, "the sequences have different lengths");
            p->in[i] = we_datum_retain(in[i]->kind == WE_DATUM_SEQUENCE ? in[i]->items[t] : in[i]);
        }
        WE_TRY(pass(flow, scope, p));
    }
    return WE_OK;
}

static we_status run_map(we_flow *flow, const we_scope *scope, size_t n, we_datum *const *in,
                         we_datum **out) {
    const we_node *node = node_of(scope, n);
    passes p;
    if (in[0]->kind != WE_DATUM_SEQUENCE)
        return bad(flow, "the first input must be a sequence");
    we_status status = open_passes(flow, scope, n, 0, 0, 0, (size_t)node->input_count, NULL, &p);
    if (status == WE_OK)
        status = map_passes(flow, scope, node, &p, in);
    for (int32_t i = 0; status == WE_OK && i < node->output_count; i++)
        status = we_datum_new_sequence(p.scans[i].items, p.scans[i].count, &out[i], flow->err);
    close_passes(&p);
    return status;
}

we_control_fn we_control_find(int32_t op) {
    switch (op) {
    case WE_OP_If:
        return run_if;
    case WE_OP_Loop:
        return run_loop;
    case WE_OP_Scan:
        return run_scan;
    case WE_OP_SequenceMap:
        return run_map;
    default:
        return NULL;
    }
}
