#include "run/explain.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"

/* Growing text; `failed` sticks. */
typedef struct text {
    char *bytes;
    size_t length, room;
    bool failed;
} text;

static bool make_room(text *t, size_t more) {
    if (t->failed || t->room - t->length > more)
        return !t->failed;
    size_t room = 2 * t->room + more + 1024;
    char *bigger = we_memory_new_dirty(room);
    if (!bigger) {
        t->failed = true;
        return false;
    }
    if (t->length)
        memcpy(bigger, t->bytes, t->length);
    we_memory_free(t->bytes);
    t->bytes = bigger;
    t->room = room;
    return true;
}

static void WE_PRINTF(2, 3) put(text *t, const char *format, ...) {
    char piece[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof piece)
        t->failed = true;
    if (!make_room(t, sizeof piece))
        return;
    memcpy(t->bytes + t->length, piece, (size_t)length + 1);
    t->length += (size_t)length;
}

static void put_string(text *t, const char *s) {
    put(t, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20)
            put(t, "\\u%04x", (unsigned char)*s);
        else
            put(t, "%c", *s);
    }
    put(t, "\"");
}

static void put_dims(text *t, const we_tensor *tensor) {
    put(t, "[");
    for (int32_t i = 0; i < tensor->rank; i++)
        put(t, "%s%lld", i ? "," : "", (long long)tensor->dims[i]);
    put(t, "]");
}

const char *we_command_name(we_command_kind kind) {
    static const char *const NAMES[] = {
        [WE_COMMAND_UNARY] = "unary",   [WE_COMMAND_BINARY] = "binary", [WE_COMMAND_SELECT] = "select",
        [WE_COMMAND_CAST] = "cast",     [WE_COMMAND_REDUCE] = "reduce", [WE_COMMAND_ARG] = "arg",
        [WE_COMMAND_TOP] = "top",       [WE_COMMAND_RANDOM] = "random", [WE_COMMAND_MATMUL] = "matmul",
        [WE_COMMAND_LOOP] = "loop",     [WE_COMMAND_RASTER] = "raster", [WE_COMMAND_CLAIM] = "claim",
        [WE_COMMAND_NATIVE] = "native", [WE_COMMAND_CHAIN] = "chain",
    };
    _Static_assert(sizeof NAMES / sizeof *NAMES == WE_COMMAND_CHAIN + 1, "every kind has a name");
    return NAMES[kind];
}

static const char *placing_name(we_placing placing) {
    return placing == WE_PLACE_CPU ? "cpu" : placing == WE_PLACE_AUTO ? "auto" : WE_OPENCL_NAME;
}

static const char *function_name(const we_command *c) {
    switch (c->kind) {
    case WE_COMMAND_UNARY:
        return we_unary_name(c->u.unary);
    case WE_COMMAND_BINARY:
        return we_binary_name(c->u.binary.fn);
    case WE_COMMAND_REDUCE:
        return we_reduce_name(c->u.reduce.fn);
    case WE_COMMAND_CLAIM:
        return we_claim_row(c->u.claim.claim)->name;
    default:
        return "";
    }
}

static const char *chain_step_name(const we_chain_step *step) {
    return step->kind == WE_COMMAND_UNARY    ? we_unary_name((we_unary_fn)step->fn)
           : step->kind == WE_COMMAND_BINARY ? we_binary_name((we_binary_fn)step->fn)
                                             : "Where";
}

static void put_details(text *t, const we_program *program, const we_command *c) {
    if (c->kind == WE_COMMAND_RASTER) {
        long long moved = 0;
        for (size_t i = 0; i < c->u.raster.count; i++)
            moved += we_region_count(&c->u.raster.regions[i]);
        put(t, ",\"regions\":%zu,\"bytes_moved\":%lld", c->u.raster.count,
            moved * (long long)we_dtype_size(program->tensors[c->out].dtype));
    }
    if (c->kind == WE_COMMAND_CHAIN) {
        put(t, ",\"functions\":[");
        for (int32_t i = 0; i < c->u.chain->step_count; i++)
            put(t, "%s\"%s\"", i ? "," : "", chain_step_name(&c->u.chain->steps[i]));
        put(t, "]");
    }
    if (c->kind == WE_COMMAND_LOOP)
        put(t, ",\"iterations\":%lld,\"body\":%zu", (long long)we_loop_iterations(&c->u.loop),
            c->u.loop.body_count);
    if (c->kind == WE_COMMAND_MATMUL) {
        static const char *const BIAS[] = {"none", "row", "column"};
        const we_matmul *p = &c->u.matmul;
        put(t, ",\"m\":%lld,\"n\":%lld,\"k\":%lld,\"bias\":\"%s\",\"relu\":%s,\"packed\":%s", (long long)p->m,
            (long long)p->n, (long long)p->k, BIAS[p->bias], p->relu ? "true" : "false",
            p->packed_b ? "true" : "false");
    }
}

/* Of all that a step reads and writes; a tensor read twice counts once more. */
static long long bytes_of(const we_program *program, const we_command *c) {
    long long bytes = 0;
    for (size_t i = 0; i < we_command_reads(c) + we_command_writes(c); i++) {
        size_t reads = we_command_reads(c);
        const we_tensor *tensor =
            &program->tensors[i < reads ? we_command_read(c, i) : we_command_write(c, i - reads)];
        bytes += tensor->count * (long long)we_dtype_size(tensor->dtype);
    }
    return bytes;
}

static void put_step(text *t, const we_graph *graph, const we_program *program, const we_command *c) {
    const we_node *node = &graph->nodes[c->node];
    put(t, "{\"node\":");
    put_string(t, node->name);
    put(t, ",\"op\":\"%s\",\"command\":\"%s\",\"function\":\"%s\",\"candidate\":\"%s\",\"predicted_ms\":%.6f",
        we_op_name(node->op), we_command_name(c->kind), function_name(c), c->candidate, c->predicted_ms);
    put(t, ",\"place\":\"%s\"", c->away ? WE_OPENCL_NAME : "cpu");
    put(t, ",\"out\":{\"dtype\":\"%s\",\"shape\":", we_dtype_name(program->tensors[c->out].dtype));
    put_dims(t, &program->tensors[c->out]);
    put(t, "},\"bytes\":%lld", bytes_of(program, c));
    put_details(t, program, c);
    put(t, "}");
}

static void put_memory(text *t, const we_prepared *prepared) {
    const we_program *program = &prepared->program;
    bool first = true;
    put(t, "\"memory\":{\"arena_bytes\":%lld,\"lower_bound_bytes\":%lld,\"scratch_bytes\":%zu,",
        (long long)prepared->plan.arena_bytes, (long long)prepared->plan.lower_bound,
        prepared->scratch_bytes);
    put(t, "\"packed_bytes\":%lld,\"spans\":[", (long long)program->packed_bytes);
    for (size_t i = 0; i < prepared->plan.span_count; i++) {
        const we_span *span = &prepared->plan.spans[i];
        if (span->offset < 0)
            continue;
        put(t, "%s{\"offset\":%lld,\"bytes\":%lld,\"first\":%d,\"last\":%d}", first ? "" : ",",
            (long long)span->offset, (long long)span->bytes, (int)span->first, (int)span->last);
        first = false;
    }
    put(t, "]}");
}

static void put_alternative(text *t, const we_alternative *a) {
    put(t, "{\"claim\":\"%s\",\"candidate\":\"%s\",\"predicted_ms\":%.6f,\"measured_ms\":",
        a->claim < 0 ? "" : we_claim_row(a->claim)->name, a->candidate ? a->candidate : "", a->predicted_ms);
    if (a->measured_ms < 0)
        put(t, "null}");
    else
        put(t, "%.6f}", a->measured_ms);
}

static void put_trials(text *t, const we_graph *graph, const we_prepared *prepared) {
    put(t, "\"trials\":[");
    for (size_t i = 0; i < prepared->trial_count; i++) {
        const we_trial *trial = &prepared->trials[i];
        put(t, "%s{\"node\":", i ? "," : "");
        put_string(t, graph->nodes[trial->node].name);
        put(t, ",\"op\":\"%s\",\"remembered\":%s,\"predicted\":%zu,\"chosen\":%zu,\"alternatives\":[",
            we_op_name(graph->nodes[trial->node].op), trial->remembered ? "true" : "false", trial->predicted,
            trial->chosen);
        for (size_t a = 0; a < trial->alternatives->count; a++) {
            put(t, "%s", a ? "," : "");
            put_alternative(t, &trial->alternatives->at[a]);
        }
        put(t, "]}");
    }
    put(t, "],");
}

static void put_traffic(text *t, const char *name, const we_traffic *traffic) {
    put(t, "\"%s\":{\"rasters\":%lld,\"regions\":%lld,\"bytes\":%lld},", name, (long long)traffic->rasters,
        (long long)traffic->regions, (long long)traffic->bytes);
}

static void put_merging(text *t, const we_merge_report *merging) {
    put(t, "\"merging\":{");
    put_traffic(t, "before", &merging->before);
    put_traffic(t, "after", &merging->after);
    put(t, "\"composed\":%lld,\"operands\":%lld,\"shared\":%lld,\"aliases\":%lld},",
        (long long)merging->composed, (long long)merging->operands, (long long)merging->shared,
        (long long)merging->aliases);
}

/* What either place would cost each node, and what was chosen. */
static void put_placing(text *t, const we_graph *graph, const we_settings *settings,
                        const we_prepared *prepared) {
    const we_placing_report *p = &prepared->placing;
    if (!p->prices)
        return;
    put(t, "\"placing\":{\"device\":");
    put_string(t, settings->device->name);
    put(t, ",\"copy_ms\":%.9f,\"to_bytes_per_ns\":%.9g,\"from_bytes_per_ns\":%.9g,\"nodes\":[",
        p->parameters.copy * 1e-6, p->parameters.to_rate, p->parameters.from_rate);
    for (size_t n = 0; n < graph->node_count; n++) {
        put(t, "%s{\"node\":", n ? "," : "");
        put_string(t, graph->nodes[n].name);
        put(t, ",\"op\":\"%s\",\"cpu_ms\":%.9f,\"device_ms\":", we_op_name(graph->nodes[n].op),
            p->prices[n].cpu);
        if (isinf(p->prices[n].device))
            put(t, "null");
        else
            put(t, "%.9f", p->prices[n].device);
        put(t, ",\"on_device\":%s}", p->away[n] ? "true" : "false");
    }
    put(t, "]},");
}

/* How many tensors are copied between the CPU and the device in a run, and what a device holds. */
static void put_copies(text *t, const we_prepared *prepared) {
    size_t to_device = 0, to_host = 0;
    for (size_t i = 0; prepared->offload && i < prepared->offload->step_count; i++) {
        to_device += prepared->offload->steps[i].kind == WE_STEP_TO_DEVICE;
        to_host += prepared->offload->steps[i].kind == WE_STEP_TO_HOST;
    }
    put(t, "\"copies\":{\"to_device\":%zu,\"to_host\":%zu},", to_device, to_host);
    if (prepared->offload)
        put(t, "\"device_memory\":{\"constant_bytes\":%lld,\"run_bytes\":%lld},",
            (long long)we_opencl_score_constant_bytes(prepared->offload->score),
            (long long)we_opencl_score_bytes(prepared->offload->score));
}

/* Layers that may run on bytes, and what their two ways are believed to cost. */
static void put_layers(text *t, const we_graph *graph, const we_quantised *quantised) {
    put(t, "\"layers\":[");
    for (size_t i = 0; quantised && i < quantised->layer_count; i++) {
        const we_quantised_layer *layer = &quantised->layers[i];
        put(t, "%s{\"node\":", i ? "," : "");
        put_string(t, graph->nodes[layer->node].name);
        put(t, ",\"on_bytes\":%s,\"bytes_ms\":%.9f,\"parts_ms\":%.9f}", layer->kept ? "false" : "true",
            layer->ms, layer->parts_ms);
    }
    put(t, "],");
}

we_status we_explain(const we_graph *graph, const we_settings *settings, const we_prepared *prepared,
                     char **out, we_error *err) {
    text t = {0};
    const char *isa;
    WE_TRY(we_isa_current(&isa, err));
    put(&t, "{\"model\":");
    put_string(&t, graph->name);
    put(&t,
        ",\"backend\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"precision\":\"%s\",\"search\":\"%s\",\"steps\":"
        "[",
        placing_name(settings->placing), isa, (int)settings->machine.threads,
        we_precision_name(settings->machine.precision), we_search_name(settings->search));
    for (size_t c = 0; c < prepared->program.command_count; c++) {
        put(&t, "%s", c ? "," : "");
        put_step(&t, graph, &prepared->program, &prepared->program.commands[c]);
    }
    put(&t, "],");
    put_placing(&t, graph, settings, prepared);
    put_copies(&t, prepared);
    put_layers(&t, graph, prepared->quantised);
    put_trials(&t, graph, prepared);
    put_merging(&t, &prepared->merging);
    put_memory(&t, prepared);
    put(&t, "}");
    if (t.failed) {
        we_memory_free(t.bytes);
        return we_error_no_memory(err);
    }
    *out = t.bytes;
    return WE_OK;
}
