/* Sessions. Invariants:
 *  - `lock` guards the list of prepared shapes and their idle workspaces; it is not held while a program
 * runs.
 *  - A shape entry in use is never freed; at most CACHE_SIZE idle ones are kept, least recently used out
 * first.
 *  - Each run has a workspace of its own, so runs of one session may overlap. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/switches.h"
#include "run/background.h"
#include "run/block.h"
#include "run/explain.h"
#include "run/model.h"
#include "run/module.h"
#include "run/trials.h"

enum {
    CACHE_SIZE = 4,
    FEW_INPUTS = 8,
    DEFAULT_MAX_TRIPS = 1 << 24,
    DEFAULT_MEASURE_S = 2,
    DEFAULT_EXHAUSTIVE_S = 600,
    MAX_SEARCH_S = 86400,
};

static const int64_t DEFAULT_MEMORY_LIMIT = (int64_t)8 << 30;

typedef struct shape_entry {
    struct shape_entry *next; /* most recently used first */
    we_prepared *prepared;
    we_background *better; /* a program for the device and the CPU, on its way; NULL: there is none */
    we_view *shapes;       /* the key, one per input */
    we_workspace *idle;
    int32_t users;
} shape_entry;

typedef struct input_axis {
    int32_t input, axis;
} input_axis;

/* Two dims of inputs that bear one symbol: the first that does, and another. */
typedef struct symbol_pair {
    input_axis first, again;
} symbol_pair;

struct we_session {
    _Atomic int64_t references;
    pthread_mutex_t lock;
    we_model *model;
    we_settings settings;
    we_settings
        first_settings; /* of programs that must not wait for a device: with 'auto' they are the CPU's */
    we_pool *pool;
    symbol_pair *pairs;
    size_t pair_count;
    shape_entry *shapes;
    we_module *module;
    _Atomic bool dynamic; /* the graph is no single program: run the module */
    _Atomic uint64_t interrupts;
};

/* ---- Settings ---- */

static double monotonic(void *context) {
    (void)context;
    return we_clock_now_s();
}

/* "cpu", "opencl" or "auto"; the latter two may be followed by ":" and the number of a device. NULL: what the
 * environment says, else "cpu". */
static we_status read_backend(const char *wanted, we_settings *out, we_error *err) {
    static const char *const NAMES[WE_PLACE_COUNT] = {"cpu", WE_OPENCL_NAME, "auto"};
    const char *text = wanted && *wanted ? wanted : getenv("WALLE_ENGINE_BACKEND");
    text = text && *text ? text : "cpu";
    size_t length = strcspn(text, ":");
    int found = 0;
    char *end = "";
    while (found < WE_PLACE_COUNT &&
           (strlen(NAMES[found]) != length || strncmp(NAMES[found], text, length) != 0))
        found++;
    unsigned long number = text[length] ? strtoul(text + length + 1, &end, 10) : 0;
    if (found == WE_PLACE_COUNT || *end || text[strlen(text) - 1] == ':' ||
        (found == WE_PLACE_CPU && text[length]))
        return we_error_set(err, WE_CONFIG,
                            "backend '%.30s' is unknown; use 'cpu', 'opencl', 'auto', or 'opencl:1' for "
                            "the second device",
                            text);
    out->backend = &we_cpu_backend;
    out->placing = (we_placing)found;
    we_opencl_device *devices;
    if (found == WE_PLACE_CPU || (found == WE_PLACE_AUTO && we_opencl_devices(&devices) == 0))
        return WE_OK;
    return we_opencl_open(number, &out->device, err);
}

static we_status read_settings(const we_session_options *options, we_settings *out, we_error *err) {
    const char *search = options->search ? options->search : "model";
    const char *precision = options->precision ? options->precision : "high";
    if (we_precision_find(precision) == WE_PRECISION_COUNT)
        return we_error_set(err, WE_CONFIG, "precision '%.30s' is unknown; use 'highest', 'high' or 'medium'",
                            precision);
    if (options->threads < 0 || options->threads > WE_POOL_THREADS)
        return we_error_set(err, WE_CONFIG, "threads must be 1 to %d, not %d", WE_POOL_THREADS,
                            (int)options->threads);
    WE_TRY(read_backend(options->backend, out, err));
    if ((out->search = we_search_find(search)) == WE_SEARCH_COUNT)
        return we_error_set(err, WE_CONFIG,
                            "search '%.30s' is unknown; use 'model', 'measure', 'exhaustive' or 'reference'",
                            search);
    if (!(options->search_s >= 0 && options->search_s <= MAX_SEARCH_S))
        return we_error_set(err, WE_CONFIG, "search_s must be 0 to %d seconds", MAX_SEARCH_S);
    WE_TRY(we_kernels_get(&out->kernels, err));
    double default_s = out->search == WE_SEARCH_EXHAUSTIVE ? DEFAULT_EXHAUSTIVE_S : DEFAULT_MEASURE_S;
    out->search_s = options->search_s > 0 ? options->search_s : default_s;
    out->clock_s = options->clock_s ? options->clock_s : monotonic;
    out->clock_context = options->clock_context;
    if (options->memory_limit < 0 || options->max_trips < 0)
        return we_error_set(err, WE_CONFIG, "memory_limit and max_trips must not be negative");
    out->memory_limit = options->memory_limit ? options->memory_limit : DEFAULT_MEMORY_LIMIT;
    out->max_trips = options->max_trips ? options->max_trips : DEFAULT_MAX_TRIPS;
    WE_TRY(we_switches_off(&out->flags, err));
    out->flags |= options->flags;
    out->machine = (we_machine){.isas = out->kernels->isas,
                                .threads = options->threads ? options->threads : 1,
                                .precision = we_precision_find(precision),
                                .parameters = &out->parameters};
    bool standard = out->flags & WE_SESSION_UNCALIBRATED;
    out->parameters = standard ? we_parameters_standard() : we_parameters_now();
    if (out->device)
        out->device_parameters = standard ? out->device->parameters : we_parameters_of_device(out->device);
    return WE_OK;
}

typedef struct symbols {
    we_names known;
    input_axis *firsts; /* by number in `known` */
    int32_t count;
    size_t room; /* of the session's pairs */
} symbols;

static we_status pair_symbol(we_session *session, symbols *s, const char *symbol, input_axis here,
                             we_error *err) {
    int32_t first = we_names_find(&s->known, symbol);
    if (first < 0) {
        s->firsts[s->count] = here;
        return we_names_add(&s->known, symbol, s->count++) ? WE_OK : we_error_no_memory(err);
    }
    if (!we_memory_grow((void **)&session->pairs, &s->room, session->pair_count, sizeof *session->pairs))
        return we_error_no_memory(err);
    session->pairs[session->pair_count++] = (symbol_pair){s->firsts[first], here};
    return WE_OK;
}

/* Find the dims of inputs that must be equal. */
static we_status pair_symbols(const we_graph *graph, we_session *session, we_error *err) {
    symbols s = {.firsts = we_memory_new(graph->input_count * WE_MAX_RANK * sizeof *s.firsts)};
    we_status status = s.firsts ? WE_OK : we_error_no_memory(err);
    for (size_t n = 0; n < graph->input_count; n++) {
        const we_value *value = &graph->values[graph->inputs[n]];
        for (int32_t i = 0; value->typed && i < value->rank && status == WE_OK; i++) {
            if (value->symbols[i] && value->symbols[i][0])
                status = pair_symbol(session, &s, value->symbols[i], (input_axis){(int32_t)n, i}, err);
        }
    }
    we_names_free(&s.known);
    we_memory_free(s.firsts);
    return status;
}

we_status we_session_new(we_model *model, const we_session_options *options, we_session **out,
                         we_error *err) {
    const we_session_options defaults = {.threads = 1};
    if (!model || !out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "model or out pointer is NULL");
    *out = NULL;
    options = options ? options : &defaults;
    we_session *session = we_memory_new(sizeof *session);
    if (!session)
        return we_error_no_memory(err);
    we_status status = read_settings(options, &session->settings, err);
    if (status == WE_OK)
        status = we_profile_new(&session->settings.profile, err);
    if (status == WE_OK)
        status = we_pool_new(session->settings.machine.threads, &session->pool, err);
    session->settings.machine.threads = we_pool_threads(session->pool); /* no more than there are cores */
    session->settings.pool = session->pool;
    session->settings.packs = &model->packs;
    session->first_settings = session->settings;
    if (session->settings.placing == WE_PLACE_AUTO)
        session->first_settings.placing = WE_PLACE_CPU;
    if (status == WE_OK)
        status = pair_symbols(&model->graph, session, err);
    if (status == WE_OK)
        status = we_module_new(&model->graph, &session->module, err);
    if (status != WE_OK) {
        we_memory_free(session->pairs);
        we_profile_free(session->settings.profile);
        we_pool_free(session->pool);
        we_memory_free(session);
        return status;
    }
    atomic_init(&session->dynamic, we_module_is_dynamic(session->module));
    atomic_init(&session->references, 1);
    pthread_mutex_init(&session->lock, NULL);
    session->model = we_model_retain(model);
    *out = session;
    return WE_OK;
}

we_session *we_session_retain(we_session *session) {
    atomic_fetch_add_explicit(&session->references, 1, memory_order_relaxed);
    return session;
}

/* ---- Prepared shapes ---- */

static void free_program(shape_entry *entry) {
    while (entry->idle) {
        we_workspace *next = entry->idle->next;
        we_workspace_free(entry->idle);
        entry->idle = next;
    }
    we_prepared_free(entry->prepared);
}

static void free_entry(shape_entry *entry) {
    if (!entry)
        return;
    we_background_free(entry->better);
    free_program(entry);
    we_memory_free(entry->shapes);
    we_memory_free(entry);
}

void we_session_release(we_session *session) {
    if (!session || atomic_fetch_sub_explicit(&session->references, 1, memory_order_acq_rel) != 1)
        return;
    while (session->shapes) {
        shape_entry *next = session->shapes->next;
        free_entry(session->shapes);
        session->shapes = next;
    }
    we_module_free(session->module);
    we_memory_free(session->pairs);
    we_block_drop_spares();
    we_profile_free(session->settings.profile);
    we_pool_free(session->pool);
    we_model_release(session->model);
    pthread_mutex_destroy(&session->lock);
    we_memory_free(session);
}

static bool same_shapes(const we_view *a, const we_view *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (a[i].rank != b[i].rank ||
            memcmp(a[i].dims, b[i].dims, (size_t)a[i].rank * sizeof *a[i].dims) != 0)
            return false;
    }
    return true;
}

/* Drop idle entries beyond the cache's size; the list is in order of use. */
static void trim(we_session *session) {
    int32_t seen = 0;
    for (shape_entry **link = &session->shapes; *link;) {
        shape_entry *entry = *link;
        bool waits = entry->better && !we_background_is_done(entry->better);
        if (++seen > CACHE_SIZE && entry->users == 0 && !waits) {
            *link = entry->next;
            free_entry(entry);
        } else {
            link = &entry->next;
        }
    }
}

static we_status new_entry(we_session *session, const we_view *shapes, shape_entry **out, we_error *err) {
    const we_graph *graph = &session->model->graph;
    shape_entry *entry = we_memory_new(sizeof *entry);
    if (!entry)
        return we_error_no_memory(err);
    we_status status = WE_OUT_OF_MEMORY;
    entry->shapes = we_memory_new(graph->input_count * sizeof *entry->shapes);
    if (entry->shapes) {
        if (graph->input_count)
            memcpy(entry->shapes, shapes, graph->input_count * sizeof *shapes);
        status = we_prepare_searched(graph, &session->first_settings, shapes, &entry->prepared, NULL, err);
        if (status == WE_OK && session->settings.placing != session->first_settings.placing)
            entry->better = we_background_new(graph, &session->settings, entry->shapes);
    } else {
        we_error_no_memory(err);
    }
    if (status != WE_OK) {
        free_entry(entry);
        return status;
    }
    *out = entry;
    return WE_OK;
}

/* Go by the better program from now on, if it is ready and nobody runs the other. Where there is none after
 * all, the CPU's stays. */
static void improve(shape_entry *entry) {
    we_prepared *better;
    if (!entry->better || entry->users > 0 || !we_background_is_done(entry->better))
        return;
    we_background *background = entry->better;
    entry->better = NULL;
    if (we_background_take(background, &better, NULL) != WE_OK)
        return;
    free_program(entry);
    entry->prepared = better;
}

/* The entry for these shapes, made if need be, moved to the front. The lock is held. */
static we_status find_entry(we_session *session, const we_view *shapes, shape_entry **out, we_error *err) {
    size_t count = session->model->graph.input_count;
    shape_entry **link = &session->shapes;
    while (*link && !same_shapes((*link)->shapes, shapes, count))
        link = &(*link)->next;
    shape_entry *entry = *link;
    if (entry) {
        *link = entry->next;
        improve(entry);
    } else {
        WE_TRY(new_entry(session, shapes, &entry, err));
    }
    entry->next = session->shapes;
    session->shapes = entry;
    *out = entry;
    return WE_OK;
}

static we_status enter(we_session *session, const we_view *shapes, shape_entry **entry, we_workspace **space,
                       we_error *err) {
    pthread_mutex_lock(&session->lock);
    we_status status = find_entry(session, shapes, entry, err);
    if (status == WE_OK) {
        *space = (*entry)->idle;
        if (*space)
            (*entry)->idle = (*space)->next;
        (*entry)->users++;
        trim(session);
    }
    pthread_mutex_unlock(&session->lock);
    return status;
}

static void leave(we_session *session, shape_entry *entry, we_workspace *space) {
    pthread_mutex_lock(&session->lock);
    entry->users--;
    if (space) {
        space->next = entry->idle;
        entry->idle = space;
    }
    pthread_mutex_unlock(&session->lock);
}

/* ---- Inputs ---- */

static we_status wrong_shape(const we_value *value, const we_view *view, int32_t axis, we_error *err) {
    if (axis < 0)
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' has rank %d, not %d", value->name,
                            (int)view->rank, (int)value->rank);
    return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' has %lld in dim %d, not %lld", value->name,
                        (long long)view->dims[axis], (int)axis, (long long)value->dims[axis]);
}

static we_status check_input(const we_value *value, const we_view *view, bool with_data, we_error *err) {
    int64_t count = 0;
    if (value->io == WE_IO_SEQUENCE)
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' is a sequence, not a tensor",
                            value->name);
    if (view->dtype != value->dtype && (value->typed || value->dtype != WE_DTYPE_COUNT))
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' is %s, not %s: convert it", value->name,
                            we_dtype_name(view->dtype), we_dtype_name(value->dtype));
    if (value->typed && view->rank != value->rank)
        return wrong_shape(value, view, -1, err);
    for (int32_t i = 0; value->typed && i < value->rank; i++) {
        if (value->dims[i] != -1 && value->dims[i] != view->dims[i])
            return wrong_shape(value, view, i, err);
    }
    if (!we_shape_count(view->rank, view->dims, view->dtype, &count))
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' has an illegal shape", value->name);
    if (with_data && count && !view->data)
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' has no data", value->name);
    return WE_OK;
}

/* Equal symbols must have equal extents. */
static we_status check_symbols(const we_session *session, const we_view *views, we_error *err) {
    const we_graph *graph = &session->model->graph;
    for (size_t i = 0; i < session->pair_count; i++) {
        const symbol_pair *p = &session->pairs[i];
        int64_t first = views[p->first.input].dims[p->first.axis],
                again = views[p->again.input].dims[p->again.axis];
        const we_value *value = &graph->values[graph->inputs[p->again.input]];
        if (first != again)
            return we_error_set(
                err, WE_INVALID_ARGUMENT, "dim '%.60s' is %lld in one input and %lld in '%.60s'",
                value->symbols[p->again.axis], (long long)first, (long long)again, value->name);
    }
    return WE_OK;
}

/* Bindings by name to views in the graph's order. */
static we_status bind(const we_session *session, const we_binding *inputs, size_t count, bool with_data,
                      we_view *views, we_error *err) {
    const we_graph *graph = &session->model->graph;
    for (size_t n = 0; n < graph->input_count; n++) {
        const we_value *value = &graph->values[graph->inputs[n]];
        const we_binding *found = NULL;
        for (size_t i = 0; i < count; i++) {
            if (!inputs[i].name || strcmp(inputs[i].name, value->name) != 0)
                continue;
            if (found)
                return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' is given twice", value->name);
            found = &inputs[i];
        }
        if (!found)
            return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' is missing", value->name);
        WE_TRY(check_input(value, &found->view, with_data, err));
        views[n] = found->view;
    }
    for (size_t i = 0; count != graph->input_count && i < count; i++) {
        const char *name = inputs[i].name ? inputs[i].name : "";
        int32_t index = we_names_find(&graph->names, name);
        if (index < 0 || graph->values[index].kind != WE_VALUE_INPUT)
            return we_error_set(err, WE_INVALID_ARGUMENT, "the model has no input '%.100s'", name);
    }
    return check_symbols(session, views, err);
}

/* ---- The public calls ---- */

/* Room for a call's views: on the caller's stack where they are few. NULL when out of memory. */
static we_view *view_room(const we_session *session, we_view *few) {
    size_t count = session->model->graph.input_count;
    return count <= FEW_INPUTS ? few : we_memory_new(count * sizeof *few);
}

static void free_views(we_view *views, const we_view *few) {
    if (views != few)
        we_memory_free(views);
}

static we_status prepare(we_session *session, const we_view *views, we_error *err) {
    shape_entry *entry;
    we_workspace *space = NULL;
    if (atomic_load(&session->dynamic))
        return WE_OK;
    we_status status = enter(session, views, &entry, &space, err);
    if (status == WE_UNSUPPORTED) { /* what shapes alone do not settle is prepared when data are there */
        we_error_clear(err);
        return WE_OK;
    }
    WE_TRY(status);
    if (entry->better) { /* nobody takes it while this is a user of the entry */
        we_background_wait(entry->better);
        leave(session, entry, space);
        space = NULL;
        WE_TRY(enter(session, views, &entry, &space, err));
    }
    if (!space)
        status = we_prepared_workspace(entry->prepared, &space, err);
    leave(session, entry, space);
    return status;
}

we_status we_session_prepare(we_session *session, const we_binding *inputs, size_t input_count,
                             we_error *err) {
    we_view few[FEW_INPUTS];
    if (!session || (input_count && !inputs))
        return we_error_set(err, WE_INVALID_ARGUMENT, "session or inputs is NULL");
    we_view *views = view_room(session, few);
    if (!views)
        return we_error_no_memory(err);
    we_status status = bind(session, inputs, input_count, false, views, err);
    if (status == WE_OK) {
        we_pool_run_begins();
        status = prepare(session, views, err);
        we_pool_run_ends();
    }
    free_views(views, few);
    return status;
}

/* ---- Runs on values ---- */

/* The module on values of the graph's inputs, in order. `outputs` are filled on success only. */
static we_status run_module(we_session *session, we_datum *const *inputs, we_datum **outputs, we_error *err) {
    const we_graph *graph = &session->model->graph;
    we_flow flow = {
        .settings = &session->first_settings,
        .pool = session->pool,
        .budget = {.limit = session->settings.memory_limit},
        .texts = {.limit = (size_t)session->settings.memory_limit},
        .interrupts = &session->interrupts,
        .seen_interrupts = atomic_load(&session->interrupts),
        .err = err,
    };
    we_datum **results = we_memory_new(graph->output_count * sizeof *results);
    if (!results)
        return we_error_no_memory(err);
    we_status status = we_module_run(session->module, &flow, inputs, results);
    for (size_t i = 0; i < graph->output_count && status == WE_OK; i++)
        status = we_datum_leave(results[i], &outputs[i], err);
    for (size_t i = 0; i < graph->output_count; i++) {
        we_datum_release(results[i]);
        if (status != WE_OK) {
            we_datum_release(outputs[i]);
            outputs[i] = NULL;
        }
    }
    we_memory_free(results);
    we_texts_free(&flow.texts);
    return status;
}

static we_status only_tensors(const we_graph *graph, we_datum *const *values, we_block **outputs,
                              we_error *err) {
    for (size_t i = 0; i < graph->output_count; i++) {
        if (values[i]->kind != WE_DATUM_TENSOR)
            return we_error_set(err, WE_UNSUPPORTED, "output '%.100s' is no tensor: run on values instead",
                                graph->values[graph->outputs[i]].name);
        outputs[i] = we_datum_block(values[i]);
    }
    return WE_OK;
}

/* The module on tensors that the caller owns. */
static we_status run_views(we_session *session, const we_view *views, we_block **outputs, we_error *err) {
    const we_graph *graph = &session->model->graph;
    size_t count = graph->input_count + graph->output_count;
    we_datum **inputs = we_memory_new(count * sizeof *inputs), **results = inputs + graph->input_count;
    if (!inputs)
        return we_error_no_memory(err);
    we_status status = WE_OK;
    for (size_t i = 0; i < graph->input_count && status == WE_OK; i++)
        status = we_datum_borrow(&views[i], &inputs[i], err);
    if (status == WE_OK)
        status = run_module(session, inputs, results, err);
    if (status == WE_OK)
        status = only_tensors(graph, results, outputs, err);
    for (size_t i = 0; i < count; i++)
        we_datum_release(inputs[i]);
    we_memory_free(inputs);
    return status;
}

/* ---- Runs of one program ---- */

static we_status run_program(we_session *session, const we_view *views, we_block **outputs, bool *refused,
                             we_error *err) {
    shape_entry *entry;
    we_workspace *space = NULL;
    we_status status = enter(session, views, &entry, &space, err);
    *refused = status == WE_UNSUPPORTED;
    if (status != WE_OK)
        return status;
    if (!space)
        status = we_prepared_workspace(entry->prepared, &space, err);
    if (status == WE_OK)
        status =
            we_prepared_run(entry->prepared, &session->settings, session->pool, space, views, outputs, err);
    leave(session, entry, space);
    return status;
}

static we_status run_bound(we_session *session, const we_view *views, we_block **outputs, we_error *err) {
    bool refused = true;
    if (!atomic_load(&session->dynamic)) {
        we_status status = run_program(session, views, outputs, &refused, err);
        if (!refused)
            return status;
        we_error_clear(err); /* a shape may depend on data: cut the graph there */
    }
    we_status status = run_views(session, views, outputs, err);
    if (status == WE_OK)
        atomic_store(&session->dynamic, true);
    return status;
}

we_status we_session_run(we_session *session, const we_binding *inputs, size_t input_count,
                         we_block **outputs, we_error *err) {
    we_view few[FEW_INPUTS];
    if (!session || !outputs || (input_count && !inputs))
        return we_error_set(err, WE_INVALID_ARGUMENT, "session, inputs or outputs is NULL");
    size_t count = session->model->graph.output_count;
    memset(outputs, 0, count * sizeof *outputs);
    we_view *views = view_room(session, few);
    if (!views)
        return we_error_no_memory(err);
    we_status status = bind(session, inputs, input_count, true, views, err);
    if (status == WE_OK) {
        we_pool_run_begins();
        status = run_bound(session, views, outputs, err);
        we_pool_run_ends();
    }
    for (size_t i = 0; status != WE_OK && i < count; i++) {
        we_block_release(outputs[i]);
        outputs[i] = NULL;
    }
    free_views(views, few);
    return status;
}

static we_status check_value(const we_value *value, const we_datum *datum, we_error *err) {
    if (!datum)
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' is missing", value->name);
    bool sequence = datum->kind == WE_DATUM_SEQUENCE;
    if (value->io == WE_IO_OPTIONAL || (sequence && value->io == WE_IO_SEQUENCE))
        return WE_OK;
    if (datum->kind != WE_DATUM_TENSOR || value->io == WE_IO_SEQUENCE)
        return we_error_set(err, WE_INVALID_ARGUMENT, "input '%.100s' must be a %s", value->name,
                            value->io == WE_IO_SEQUENCE ? "sequence" : "tensor");
    return check_input(value, &datum->view, true, err);
}

we_status we_session_run_values(we_session *session, we_datum *const *inputs, size_t input_count,
                                we_datum **outputs, we_error *err) {
    if (!session || !outputs || (input_count && !inputs))
        return we_error_set(err, WE_INVALID_ARGUMENT, "session, inputs or outputs is NULL");
    const we_graph *graph = &session->model->graph;
    memset(outputs, 0, graph->output_count * sizeof *outputs);
    if (input_count != graph->input_count)
        return we_error_set(err, WE_INVALID_ARGUMENT, "%zu values for %zu inputs", input_count,
                            graph->input_count);
    for (size_t i = 0; i < input_count; i++)
        WE_TRY(check_value(&graph->values[graph->inputs[i]], inputs[i], err));
    we_pool_run_begins();
    we_status status = run_module(session, inputs, outputs, err);
    we_pool_run_ends();
    return status;
}

int we_session_is_module(const we_session *session) {
    return we_module_is_dynamic(session->module);
}

void we_session_interrupt(we_session *session) {
    atomic_fetch_add(&session->interrupts, 1);
}

we_status we_session_explain(we_session *session, char **out, we_error *err) {
    if (!session || !out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "session or out pointer is NULL");
    *out = NULL;
    if (atomic_load(&session->dynamic))
        return we_module_explain(session->module, &session->first_settings, out, err);
    pthread_mutex_lock(&session->lock);
    we_status status = session->shapes
                           ? we_explain(session->shapes->prepared->graph, &session->settings,
                                        session->shapes->prepared, out, err)
                           : we_error_set(err, WE_INVALID_ARGUMENT,
                                          "nothing is prepared yet: run or prepare the session first");
    pthread_mutex_unlock(&session->lock);
    return status;
}

we_status we_session_profile_start(we_session *session, we_clock clock_s, void *context, we_error *err) {
    if (!session)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the session is NULL");
    we_profile_start(session->settings.profile, clock_s, context);
    return WE_OK;
}

void we_session_profile_stop(we_session *session) {
    if (session)
        we_profile_stop(session->settings.profile);
}

size_t we_session_profile_count(we_session *session, int64_t *dropped) {
    int64_t ignored;
    return session ? we_profile_count(session->settings.profile, dropped ? dropped : &ignored) : 0;
}

we_status we_session_profile_event(we_session *session, size_t index, we_profile_event *out, we_error *err) {
    if (!session || !out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "session or out pointer is NULL");
    if (!we_profile_get(session->settings.profile, index, out))
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no event %zu", index);
    return WE_OK;
}

void we_string_free(char *text) {
    we_memory_free(text);
}

const char *we_version(void) {
    return WE_VERSION;
}
