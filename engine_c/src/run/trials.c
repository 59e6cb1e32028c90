/* How a trial is made. A node of a program prepared by the model becomes a graph of its own, with the shapes,
 * constants and kinds of inputs it has there. Each way to run it is prepared like any session's program and
 * run some times in turn with the others; the least time counts. Between two runs as many bytes are read as
 * the model has weights, because in a run of the whole model the others' weights would have passed through
 * the caches.
 *
 * Of a claim its own step is timed, without the rasters that turn its tensors from channels first to channels
 * last here: between claims there are none. Of a decomposition all steps are. */
#include "run/trials.h"

#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "run/explain.h"
#include "search/cache.h"

enum {
    MOST_TRIED = 12, /* of a node, when not all are */
    FEWEST_ROUNDS = 3,
    MOST_ROUNDS = 100,
    SURE_ROUNDS = 30,     /* after which a way that was never near the fastest is given up */
    MOST_WASH = 64 << 20, /* bytes */
    LINE = 64,
    PAGE = 4096,
    SMALL_CONST = 64, /* bytes of a constant that may decide how a node runs */
};

static const double HOT_SHARE = 0.95;   /* of the predicted time: the nodes that are tried */
static const double WORTH_TRYING = 2.5; /* times the least prediction; */
static const double WORTH_ASKING = 20;  /* when all ways are asked for: the model is not that wrong */
static const double HOPELESS = 2;       /* times the least time measured: not run again, */
static const double BEHIND = 1.15;      /* and after many rounds */
/* After which a node has no more rounds than the fewest; what the first round takes is not counted, as it
 * has the hopeless ways. Who asks for all ways wants to know how good the model is: two threads need many
 * rounds for each way to have had both cores to itself. */
static const double NODE_S = 0.05, EXHAUSTIVE_NODE_S = 0.4;

/* One way to run the node. */
typedef struct runner {
    we_alternative *alternative;
    we_settings settings; /* the session's, with a profile and a choice of its own */
    we_prepared *prepared;
    we_workspace *space;
    we_block **outputs; /* kept from run to run: pages that are new would be part of what is timed */
    double turning_ms;  /* the least that the rasters round the claim took */
} runner;

/* A node by itself. */
typedef struct trial {
    const we_settings *settings;
    we_graph graph;
    we_node node;
    we_arena arena;
    we_view *shapes; /* of its inputs, with data once it is to run */
    bool *inner;
    double vanished; /* part of the rasters round a claim that the model's program has no more */
    const char *wash;
    size_t wash_bytes;
    we_profile *profile;
    we_error *err;
} trial;

static double now(const we_settings *settings) {
    return settings->clock_s(settings->clock_context);
}

/* ---- A node as a graph ---- */

static we_value value_of(const we_tensor *tensor) {
    we_value value = {.name = "", .typed = true, .dtype = tensor->dtype, .rank = tensor->rank};
    value.kind = tensor->kind == WE_TENSOR_CONST ? WE_VALUE_WEIGHT : WE_VALUE_INPUT;
    value.data = tensor->data;
    memcpy(value.dims, tensor->dims, sizeof value.dims);
    return value;
}

static we_status isolate(trial *t, const we_graph *graph, const we_prepared *prepared, int32_t index) {
    const we_node *node = &graph->nodes[index];
    size_t ins = (size_t)node->input_count, outs = (size_t)node->output_count;
    we_value *values = we_arena_new(&t->arena, (ins + outs) * sizeof *values);
    int32_t *links = we_arena_new(&t->arena, 2 * (ins + outs) * sizeof *links);
    t->shapes = we_arena_new(&t->arena, ins * sizeof *t->shapes);
    t->inner = we_arena_new(&t->arena, ins * sizeof *t->inner);
    if (!values || !links || !t->shapes || !t->inner)
        return we_error_no_memory(t->err);
    t->node = *node;
    t->node.inputs = links;
    t->node.outputs = links + ins;
    t->graph = (we_graph){.name = "", .values = values, .nodes = &t->node, .node_count = 1};
    t->graph.inputs = links + ins + outs;
    t->graph.outputs = t->graph.inputs + ins;
    t->graph.value_count = ins + outs;
    for (int32_t i = 0; i < (int32_t)(ins + outs); i++) {
        bool input = i < (int32_t)ins;
        int32_t value = input ? node->inputs[i] : node->outputs[i - (int32_t)ins];
        links[i] = value < 0 ? -1 : i;
        values[i] = (we_value){.name = "", .kind = WE_VALUE_NODE};
        if (value >= 0 && !input)
            t->graph.outputs[t->graph.output_count++] = i;
        if (value < 0 || !input)
            continue;
        const we_tensor *tensor = &prepared->program.tensors[prepared->tensor_of[value]];
        values[i] = value_of(tensor);
        if (tensor->kind == WE_TENSOR_CONST)
            continue;
        we_view *view = &t->shapes[t->graph.input_count];
        *view = (we_view){.dtype = tensor->dtype, .rank = tensor->rank};
        memcpy(view->dims, tensor->dims, sizeof view->dims);
        t->inner[t->graph.input_count] = tensor->kind != WE_TENSOR_INPUT;
        t->graph.inputs[t->graph.input_count++] = i;
    }
    return WE_OK;
}

/* ---- The key of equal nodes ---- */

typedef struct text {
    char *bytes;
    size_t size, room;
    bool failed;
} text;

static void put(text *k, const void *bytes, size_t size) {
    const char *from = bytes;
    for (size_t i = 0; i < size && !k->failed; i++) {
        k->failed = !we_memory_grow((void **)&k->bytes, &k->room, k->size, 1);
        if (!k->failed)
            k->bytes[k->size++] = from[i];
    }
}

static void put_attribute(text *k, const we_attr *a) {
    put(k, a->name, strlen(a->name) + 1);
    put(k, &a->kind, sizeof a->kind);
    put(k, &a->integer, sizeof a->integer);
    put(k, &a->real, sizeof a->real);
    put(k, &a->count, sizeof a->count);
    if (a->string)
        put(k, a->string, strlen(a->string) + 1);
    if (a->integers)
        put(k, a->integers, a->count * sizeof *a->integers);
    if (a->reals)
        put(k, a->reals, a->count * sizeof *a->reals);
    for (size_t i = 0; a->strings && i < a->count; i++)
        put(k, a->strings[i], strlen(a->strings[i]) + 1);
}

static void put_value(text *k, const we_value *value, bool inner) {
    int32_t head[4] = {(int32_t)value->kind, (int32_t)value->dtype, value->rank, inner};
    int64_t count = 0;
    put(k, head, sizeof head);
    put(k, value->dims, (size_t)value->rank * sizeof *value->dims);
    if (value->kind == WE_VALUE_WEIGHT && we_shape_count(value->rank, value->dims, value->dtype, &count) &&
        count * (int64_t)we_dtype_size(value->dtype) <= SMALL_CONST)
        put(k, value->data, (size_t)count * we_dtype_size(value->dtype));
}

/* All that decides how long each way takes. */
static text key_of(const trial *t) {
    text k = {0};
    const we_settings *s = t->settings;
    int64_t head[] = {s->machine.isas,     s->machine.threads,  (int64_t)s->machine.precision,
                      (int64_t)s->flags,   (int64_t)s->search,  (int64_t)t->wash_bytes,
                      t->node.input_count, t->node.output_count};
    const char *op = we_op_name(t->node.op);
    put(&k, s->backend->name, strlen(s->backend->name) + 1);
    put(&k, op, strlen(op) + 1);
    put(&k, head, sizeof head);
    for (size_t i = 0; i < t->node.attr_count; i++)
        put_attribute(&k, &t->node.attrs[i]);
    size_t input = 0;
    for (int32_t i = 0; i < t->node.input_count; i++) {
        const we_value *value = &t->graph.values[i];
        put(&k, &t->node.inputs[i], sizeof t->node.inputs[i]);
        if (t->node.inputs[i] >= 0)
            put_value(&k, value, value->kind == WE_VALUE_INPUT && t->inner[input++]);
    }
    put(&k, t->node.outputs, (size_t)t->node.output_count * sizeof *t->node.outputs);
    return k;
}

/* ---- Runs ---- */

static void free_runner(const trial *t, runner *r) {
    for (size_t i = 0; i < t->graph.output_count && r->outputs; i++)
        we_block_release(r->outputs[i]);
    we_memory_free(r->outputs);
    we_workspace_free(r->space);
    we_prepared_free(r->prepared);
    *r = (runner){0};
}

static we_status make_runner(const trial *t, we_alternative *alternative, runner *out) {
    out->alternative = alternative;
    out->settings = *t->settings;
    out->settings.search = WE_SEARCH_MODEL;
    out->settings.machine.weights = (double)t->wash_bytes;
    out->settings.choices = alternative; /* there is one node */
    out->settings.inner = t->inner;
    out->settings.profile = t->profile;
    WE_TRY(we_prepare(&t->graph, &out->settings, t->shapes, &out->prepared, NULL, t->err));
    WE_TRY(we_prepared_workspace(out->prepared, &out->space, t->err));
    out->outputs = we_memory_new(t->graph.output_count * sizeof *out->outputs);
    return out->outputs ? WE_OK : we_error_no_memory(t->err);
}

static double lesser(double a, double b) {
    return a < b ? a : b;
}

/* Bytes to bring into the caches of those who will work on them. */
typedef struct stretch {
    const char *bytes;
    int64_t size;
} stretch;

static void read_pages(void *context, int64_t begin, int64_t end) {
    const stretch *s = context;
    int64_t last = end * PAGE < s->size ? end * PAGE : s->size;
    uint32_t sum = 0;
    for (int64_t i = begin * PAGE; i < last; i += LINE)
        sum += (uint8_t)s->bytes[i];
    volatile uint32_t keep = sum;
    (void)keep;
}

/* By all threads, each the same part as of the loops of a run; it wakes those that sleep, too. */
static void read_lines(const trial *t, const void *bytes, size_t size) {
    stretch s = {bytes, (int64_t)size};
    we_parallel_for(t->settings->pool, (s.size + PAGE - 1) / PAGE, 1, read_pages, &s);
}

/* The caches as the rest of a run leaves them: others' weights, then what steps write and read. */
static void set_caches(const trial *t, const runner *r) {
    read_lines(t, t->wash, t->wash_bytes);
    read_lines(t, r->space->arena, (size_t)r->prepared->plan.arena_bytes);
    for (size_t i = 0; i < t->graph.input_count; i++) {
        int64_t count = 0;
        const we_view *view = &t->shapes[i];
        we_shape_count(view->rank, view->dims, view->dtype, &count);
        read_lines(t, view->data, (size_t)count * we_dtype_size(view->dtype));
    }
}

/* Take the times of the run's steps. */
static void take_times(runner *r) {
    we_profile_event event;
    double turning_ms = 0, ms = 0, *best = &r->alternative->measured_ms;
    for (size_t i = 0; we_profile_get(r->settings.profile, i, &event); i++) {
        bool turns =
            r->alternative->claim >= 0 && strcmp(event.command, we_command_name(WE_COMMAND_RASTER)) == 0;
        *(turns ? &turning_ms : &ms) += (event.end_s - event.start_s) * 1e3;
    }
    r->turning_ms = *best < 0 ? turning_ms : lesser(turning_ms, r->turning_ms);
    *best = *best < 0 ? ms : lesser(ms, *best);
}

static we_status run_program(const trial *t, const runner *r) {
    return we_prepared_run(r->prepared, &r->settings, t->settings->pool, r->space, t->shapes, r->outputs,
                           t->err);
}

/* A run that counts, after one that does not: else a way's weights would be as far as all the others' that
 * ran meanwhile have pushed them (2.4 MB of them: 0.19 ms instead of 0.14 in the model, Zen 5). */
static we_status run_once(const trial *t, const runner *r) {
    WE_TRY(run_program(t, r));
    set_caches(t, r);
    we_profile_start(t->profile, t->settings->clock_s, t->settings->clock_context);
    we_status status = run_program(t, r);
    we_profile_stop(t->profile);
    return status;
}

/* Not run again. One bad time may be another process's fault, unless the model expected it. */
static bool is_hopeless(const we_alternative *a, int round, double least, double predicted) {
    int doubts = a->predicted_ms > WORTH_TRYING * predicted ? 1 : FEWEST_ROUNDS;
    return (round >= doubts && a->measured_ms > HOPELESS * least) ||
           (round >= SURE_ROUNDS && a->measured_ms > BEHIND * least);
}

static we_status run_rounds(const trial *t, runner *runners, size_t count) {
    double begin = 0, least = -1, predicted = runners[0].alternative->predicted_ms;
    double most_s = t->settings->search == WE_SEARCH_EXHAUSTIVE ? EXHAUSTIVE_NODE_S : NODE_S;
    for (size_t i = 1; i < count; i++)
        predicted = lesser(predicted, runners[i].alternative->predicted_ms);
    bool over = false;
    for (int round = 0; round < MOST_ROUNDS && !(over && round >= FEWEST_ROUNDS); round++) {
        for (size_t i = 0; i < count; i++) {
            const double *best = &runners[i].alternative->measured_ms;
            if (is_hopeless(runners[i].alternative, round, least, predicted))
                continue;
            WE_TRY(run_once(t, &runners[i]));
            take_times(&runners[i]);
            least = least < 0 ? *best : lesser(least, *best);
        }
        begin = round == 0 ? now(t->settings) : begin;
        over = now(t->settings) - begin > most_s;
    }
    return WE_OK;
}

/* Half of ones in every float: no special values, and nothing that a kernel may skip. */
static we_status fill_inputs(trial *t) {
    for (size_t i = 0; i < t->graph.input_count; i++) {
        int64_t count = 0;
        we_view *view = &t->shapes[i];
        we_shape_count(view->rank, view->dims, view->dtype, &count);
        view->data = we_memory_new((size_t)count * we_dtype_size(view->dtype));
        if (!view->data)
            return we_error_no_memory(t->err);
        for (int64_t x = 0; view->dtype == WE_F32 && x < count; x++)
            ((float *)view->data)[x] = 0.5f;
    }
    return WE_OK;
}

/* Add the rasters that there would be round each alternative in the model's program. */
static void add_turning(const trial *t, const runner *runners, size_t count) {
    double turning_ms = -1;
    for (size_t i = 0; i < count; i++) {
        if (runners[i].alternative->claim >= 0 && (turning_ms < 0 || runners[i].turning_ms < turning_ms))
            turning_ms = runners[i].turning_ms;
    }
    for (size_t i = 0; i < count && turning_ms > 0; i++) {
        bool claim = runners[i].alternative->claim >= 0;
        runners[i].alternative->measured_ms += turning_ms * (claim ? 1 - t->vanished : t->vanished);
    }
}

static bool worth_trying(const we_settings *settings, const we_alternative *a, double least) {
    bool all = settings->search == WE_SEARCH_EXHAUSTIVE;
    return a->predicted_ms <= (all ? WORTH_ASKING : WORTH_TRYING) * least;
}

static we_status try_all(trial *t, we_alternatives *list) {
    runner runners[WE_MAX_ALTERNATIVES] = {{0}};
    size_t count = 0, most = t->settings->search == WE_SEARCH_EXHAUSTIVE ? WE_MAX_ALTERNATIVES : MOST_TRIED;
    double least = list->at[we_alternatives_predicted(list)].predicted_ms;
    we_status status = fill_inputs(t);
    for (size_t i = 0; i < list->count && count < most && status == WE_OK; i++) {
        if (worth_trying(t->settings, &list->at[i], least))
            status = make_runner(t, &list->at[i], &runners[count++]);
    }
    if (status == WE_OK && count > 1)
        status = run_rounds(t, runners, count);
    if (status == WE_OK && count > 1)
        add_turning(t, runners, count);
    for (size_t i = 0; i < count; i++)
        free_runner(t, &runners[i]);
    return status;
}

/* ---- Nodes ---- */

/* Time the ways to run a node, or remember. list->count below 2: there is nothing to choose. */
static we_status try_node(trial *t, we_alternatives *list, bool *remembered) {
    we_settings settings = *t->settings;
    settings.search = WE_SEARCH_MODEL;
    settings.machine.weights = (double)t->wash_bytes;
    settings.inner = t->inner;
    WE_TRY(we_prepare_alternatives(&t->graph, &settings, t->shapes, list, t->err));
    if (list->count < 2)
        return WE_OK;
    text key = key_of(t);
    bool own_clock =
        t->settings->clock_context != NULL; /* what another clock says is not worth remembering */
    *remembered = !key.failed && !own_clock && we_cache_find(key.bytes, key.size, list);
    we_status status = *remembered ? WE_OK : try_all(t, list);
    if (status == WE_OK && !*remembered && !key.failed && !own_clock)
        we_cache_keep(key.bytes, key.size, list, t->settings->search == WE_SEARCH_MEASURE);
    we_memory_free(key.bytes);
    return status;
}

static void free_trial(trial *t) {
    for (size_t i = 0; i < t->graph.input_count; i++)
        we_memory_free(t->shapes[i].data);
    we_arena_free(&t->arena);
}

/* Nodes by predicted time, the dearest first. */
typedef struct heat {
    int32_t node;
    double ms;
} heat;

static int hotter(const void *a, const void *b) {
    const heat *x = a, *y = b;
    return x->ms != y->ms ? (x->ms < y->ms ? 1 : -1) : x->node - y->node;
}

/* A gradient is one of others, and what is differentiated has one way to run: these are no graphs of their
 * own. */
static bool stands_alone(const we_graph *graph, const we_prepared *prepared, int32_t node) {
    return graph->nodes[node].op != WE_OP_Gradient && !(prepared->between && prepared->between[node]);
}

static heat *heat_of(const we_graph *graph, const we_prepared *prepared) {
    heat *nodes = we_memory_new(graph->node_count * sizeof *nodes);
    for (size_t n = 0; nodes && n < graph->node_count; n++)
        nodes[n].node = (int32_t)n;
    for (size_t c = 0; nodes && c < prepared->program.command_count; c++) {
        int32_t node = prepared->program.commands[c].node;
        if (stands_alone(graph, prepared, node))
            nodes[node].ms += prepared->program.commands[c].predicted_ms;
    }
    if (nodes)
        qsort(nodes, graph->node_count, sizeof *nodes, hotter);
    return nodes;
}

/* Of the two rasters round a claim on channels last, the part that the program has no more; 0 where the node
 * runs another way. */
static double vanished_of(const we_prepared *prepared, int32_t node) {
    bool claimed = false;
    int32_t rasters = 0;
    for (size_t c = 0; c < prepared->program.command_count; c++) {
        const we_command *command = &prepared->program.commands[c];
        const we_claim_methods *claim = we_claim_of(command);
        if (command->node != node)
            continue;
        claimed = claimed || (claim && claim->channels_last);
        rasters += command->kind == WE_COMMAND_RASTER;
    }
    return !claimed || rasters > 2 ? 0 : 1 - rasters / 2.0;
}

static size_t bytes_of_weights(const we_prepared *prepared) {
    size_t bytes = 0;
    for (size_t i = 0; i < prepared->program.tensor_count && bytes < MOST_WASH; i++) {
        const we_tensor *tensor = &prepared->program.tensors[i];
        if (tensor->kind == WE_TENSOR_CONST)
            bytes += (size_t)tensor->count * we_dtype_size(tensor->dtype);
    }
    return bytes < MOST_WASH ? bytes : MOST_WASH;
}

/* A search over the nodes of a prepared program. */
typedef struct search {
    const we_graph *graph;
    const we_settings *settings;
    we_prepared *prepared;
    we_arena arena; /* of what is found */
    we_trial *trials;
    size_t count;
    we_alternative *choices;
    char *wash;
    we_profile *profile;
    we_error *err;
} search;

/* The row of the claim by which the model runs the node, -1: the decomposition. */
static int32_t claim_of(const we_prepared *prepared, int32_t node) {
    for (size_t c = 0; c < prepared->program.command_count; c++) {
        const we_command *command = &prepared->program.commands[c];
        if (command->node == node && command->kind == WE_COMMAND_CLAIM)
            return command->u.claim.claim;
    }
    return -1;
}

/* The model's choice: what the node runs as, which its neighbours' layouts may have decided, in the way that
 * is predicted to be the fastest. */
static size_t choice_of_model(const we_alternatives *list, int32_t claim) {
    size_t best = list->count;
    for (size_t i = 0; i < list->count; i++) {
        if (list->at[i].claim == claim &&
            (best == list->count || list->at[i].predicted_ms < list->at[best].predicted_ms))
            best = i;
    }
    return best < list->count ? best : we_alternatives_predicted(list);
}

static we_status search_node(search *s, int32_t node) {
    trial t = {.settings = s->settings,
               .vanished = vanished_of(s->prepared, node),
               .wash = s->wash,
               .wash_bytes = bytes_of_weights(s->prepared),
               .profile = s->profile,
               .err = s->err};
    we_trial *found = &s->trials[s->count];
    *found = (we_trial){.node = node, .alternatives = we_arena_new(&s->arena, sizeof *found->alternatives)};
    we_status status =
        found->alternatives ? isolate(&t, s->graph, s->prepared, node) : we_error_no_memory(s->err);
    if (status == WE_OK)
        status = try_node(&t, found->alternatives, &found->remembered);
    free_trial(&t);
    if (status == WE_OK && found->alternatives->count > 1) {
        found->predicted = choice_of_model(found->alternatives, claim_of(s->prepared, node));
        found->chosen = we_alternatives_measured(found->alternatives);
        s->choices[node] = found->alternatives->at[found->chosen];
        s->count++;
    }
    return status;
}

static we_status search_nodes(search *s, const heat *nodes) {
    bool all = s->settings->search == WE_SEARCH_EXHAUSTIVE;
    double whole = 0, done = 0, begin = now(s->settings);
    for (size_t n = 0; n < s->graph->node_count; n++)
        whole += nodes[n].ms;
    for (size_t n = 0; n < s->graph->node_count && nodes[n].ms > 0 && (all || done < HOT_SHARE * whole);
         n++) {
        if (n > 0 && now(s->settings) - begin >= s->settings->search_s)
            break;
        done += nodes[n].ms;
        if (!s->graph->nodes[nodes[n].node].bodies)
            WE_TRY(search_node(s, nodes[n].node));
    }
    return WE_OK;
}

static we_status make_search(search *s) {
    size_t nodes = s->graph->node_count;
    s->trials = we_arena_new(&s->arena, nodes * sizeof *s->trials);
    s->choices = we_arena_new(&s->arena, nodes * sizeof *s->choices);
    s->wash = we_memory_new(bytes_of_weights(s->prepared) + 1);
    if (!s->trials || !s->choices || !s->wash)
        return we_error_no_memory(s->err);
    memset(s->wash, 1, bytes_of_weights(s->prepared)); /* pages of its own */
    for (size_t n = 0; n < nodes; n++)
        s->choices[n].claim = WE_CLAIM_ANY;
    return we_profile_new(&s->profile, s->err);
}

/* The program anew, by what was found; it takes over the findings. */
static we_status prepare_chosen(search *s, const we_view *shapes, we_prepared **out) {
    we_settings settings = *s->settings;
    settings.choices = s->choices;
    WE_TRY(we_prepare(s->graph, &settings, shapes, out, NULL, s->err));
    (*out)->quantised = s->prepared->quantised; /* it was made of that graph */
    s->prepared->quantised = NULL;
    (*out)->trials = s->trials;
    (*out)->trial_count = s->count;
    (*out)->trial_arena = s->arena;
    s->arena = (we_arena){0};
    return WE_OK;
}

we_status we_prepare_searched(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                              we_prepared **out, size_t *reached, we_error *err) {
    we_prepared *prepared;
    *out = NULL;
    WE_TRY(we_prepare(graph, settings, shapes, &prepared, reached, err));
    bool times = settings->search == WE_SEARCH_MEASURE || settings->search == WE_SEARCH_EXHAUSTIVE;
    if (!times || prepared->offload) { /* on a device products are timed while they are recorded */
        *out = prepared;
        return WE_OK;
    }
    graph = prepared->graph;
    search s = {.graph = graph, .settings = settings, .prepared = prepared, .err = err};
    heat *nodes = heat_of(graph, prepared);
    we_status status = nodes ? make_search(&s) : we_error_no_memory(err);
    if (status == WE_OK)
        status = search_nodes(&s, nodes);
    if (status == WE_OK)
        status = prepare_chosen(&s, shapes, out);
    we_memory_free(nodes);
    we_memory_free(s.wash);
    we_profile_free(s.profile);
    we_arena_free(&s.arena);
    we_prepared_free(prepared);
    return status;
}
