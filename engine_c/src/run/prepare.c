/* The pipeline, in the order it runs:
 *   shapes -> decompose (or claim) -> fold constants        per node
 *   -> move layouts -> merge rasters -> fuse -> search -> plan -> pack       for the program
 *   -> execute                                               per run */
#include "run/prepare.h"

#include <math.h>
#include <string.h>

#include <walle/array.h>

#include "base/clock.h"
#include "base/dtype.h"
#include "base/error.h"
#include "geometry/lower.h"
#include "grad/grad.h"
#include "graph/opspec.h"
#include "run/explain.h"
#include "run/layouts.h"

enum {
    MAX_FOLDED = 64 << 20, /* bytes: a larger constant is computed at each run rather than kept */
};

typedef struct builder {
    int64_t folded_bytes; /* of constants made so far */
    we_machine machine;   /* the session's, for this model */
    const we_graph *graph;
    const we_settings *settings;
    we_program *program;
    int32_t *tensor_of;            /* per graph value */
    we_alternatives *alternatives; /* of the last node, listed while it is lowered; NULL: not wanted */
    we_layout_ways *ways;          /* per node, found while it is lowered */
    const bool *last;              /* per node: it is to run channels last; NULL: as suits it alone */
    const bool *away;              /* per node: it is to run on the device; NULL: none is */
    const bool *between;           /* per node: it is to be differentiated; NULL: none is */
    we_placing_price *prices;      /* per node, found while it is lowered; NULL: not wanted */
    we_error *err;
} builder;

/* What the node is to run as, or NULL where that is for the cost model to say. */
static const we_alternative *choice_of(const builder *b, int32_t node) {
    const we_alternative *choices = b->settings->choices;
    return choices && choices[node].claim != WE_CLAIM_ANY ? &choices[node] : NULL;
}

static bool is_away(const builder *b, int32_t node) {
    return b->away && b->away[node];
}

static bool is_between(const builder *b, int32_t node) {
    return b->between && b->between[node];
}

/* What a node of the device's finds no kernel for runs on the CPU all the same. */
static void choose_command(const builder *b, const char *wanted, we_command *command) {
    we_machine machine = b->machine;
    const we_opencl_device *device = b->settings->device;
    command->away = is_away(b, command->node) && we_opencl_takes(device, b->program, command);
    if (command->away) {
        command->candidate = WE_OPENCL_NAME;
        command->predicted_ms =
            we_opencl_cost_ns(device, &b->settings->device_parameters, b->program, command) * 1e-6;
        return;
    }
    machine.wanted = wanted;
    we_search_choose(&machine, b->program, b->settings->search == WE_SEARCH_REFERENCE, command);
}

static size_t bytes_of(const we_tensor *tensor) {
    return (size_t)tensor->count * we_dtype_size(tensor->dtype);
}

/* ---- Values of the graph ---- */

static we_status add_inputs(builder *b, const we_view *shapes, we_prepared *prepared) {
    for (size_t i = 0; i < b->graph->input_count; i++) {
        we_tensor tensor = {.kind = WE_TENSOR_INPUT,
                            .dtype = shapes[i].dtype,
                            .rank = shapes[i].rank,
                            .index = (int32_t)i,
                            .alias_of = -1};
        memcpy(tensor.dims, shapes[i].dims, sizeof tensor.dims);
        if (!we_shape_count(tensor.rank, tensor.dims, tensor.dtype, &tensor.count))
            return we_error_set(b->err, WE_INVALID_ARGUMENT, "input %zu is absurdly large", i);
        WE_TRY(we_program_tensor(b->program, &tensor, &prepared->inputs[i], b->err));
        b->tensor_of[b->graph->inputs[i]] = prepared->inputs[i];
    }
    return WE_OK;
}

/* What codes would take as float32 beyond what they do: reading that is what reading codes is compared with.
 */
static double widening_bytes(const we_graph *graph) {
    double bytes = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        const we_node *node = &graph->nodes[i];
        if (node->op != WE_OP_MatMulNBits || node->inputs[1] < 0 ||
            graph->values[node->inputs[1]].kind != WE_VALUE_WEIGHT)
            continue;
        double k = (double)we_node_int(node, "K", 0), n = (double)we_node_int(node, "N", 0);
        bytes += k * n * (4 - (double)we_node_int(node, "bits", 4) / 8);
    }
    return bytes;
}

static we_status add_weights(builder *b) {
    if (!b->settings->machine.weights)
        b->machine.weights += widening_bytes(b->graph);
    for (size_t v = 0; v < b->graph->value_count; v++) {
        const we_value *value = &b->graph->values[v];
        if (value->kind != WE_VALUE_WEIGHT)
            continue;
        we_tensor tensor = {.kind = WE_TENSOR_CONST,
                            .dtype = value->dtype,
                            .rank = value->rank,
                            .data = value->data,
                            .alias_of = -1};
        memcpy(tensor.dims, value->dims, sizeof tensor.dims);
        we_shape_count(tensor.rank, tensor.dims, tensor.dtype, &tensor.count);
        if (!b->settings->machine.weights)
            b->machine.weights += (double)bytes_of(&tensor);
        WE_TRY(we_program_tensor(b->program, &tensor, &b->tensor_of[v], b->err));
    }
    return WE_OK;
}

/* ---- Folding: a command whose operands are all known runs now ---- */

static bool can_fold(const we_program *program, const we_command *command) {
    if (command->kind == WE_COMMAND_CLAIM || command->kind == WE_COMMAND_RANDOM ||
        (command->kind == WE_COMMAND_LOOP &&
         (command->u.loop.write_count != 1 || !we_loop_is_simple(program, &command->u.loop))) ||
        bytes_of(&program->tensors[command->out]) > MAX_FOLDED)
        return false;
    for (size_t i = 0; i < we_command_reads(command); i++) {
        if (program->tensors[we_command_read(command, i)].kind != WE_TENSOR_CONST)
            return false;
    }
    return true;
}

/* Let what will be folded count as constant already, or no longer. */
static void foresee(we_program *program, size_t mark, bool folded) {
    for (size_t c = mark; c < program->command_count; c++) {
        we_tensor *out = &program->tensors[program->commands[c].out];
        if (!folded)
            out->kind = WE_TENSOR_TEMP;
        else if (can_fold(program, &program->commands[c]))
            out->kind = WE_TENSOR_CONST;
    }
}

/* Of the constants that commands from the mark on will fold into: what outlives them, for `outs` or commands
 * that stay. */
static void find_lasting(we_program *program, size_t mark, const int32_t *outs, int32_t out_count,
                         bool *lasts) {
    int64_t offset;
    for (int32_t i = 0; i < out_count; i++) {
        if (outs[i] >= 0)
            lasts[outs[i]] = true;
    }
    foresee(program, mark, true);
    for (size_t c = program->command_count; c-- > mark;) {
        const we_command *command = &program->commands[c];
        bool folds = program->tensors[command->out].kind == WE_TENSOR_CONST;
        bool alias = command->kind == WE_COMMAND_RASTER && we_raster_is_alias(program, command, &offset);
        for (size_t i = 0; (!folds || (alias && lasts[command->out])) && i < we_command_reads(command); i++)
            lasts[we_command_read(command, i)] = true;
    }
    foresee(program, mark, false);
}

/* Where constants are made, and what is known of where tensors are meanwhile. */
typedef struct folding {
    void **memory;
    bool *lasts;
    we_arena passing; /* of those that do not last */
    int64_t passing_bytes;
} folding;

static we_status fold(builder *b, we_command *command, folding *f) {
    we_program *program = b->program;
    we_tensor *out = &program->tensors[command->out];
    int64_t offset;
    if (command->kind == WE_COMMAND_RASTER && we_raster_is_alias(program, command, &offset)) {
        const we_tensor *source = &program->tensors[command->u.raster.regions[0].source];
        out->data = (const char *)source->data + offset * (int64_t)we_dtype_size(source->dtype);
    } else {
        bool lasts = f->lasts[command->out];
        *(lasts ? &b->folded_bytes : &f->passing_bytes) += (int64_t)bytes_of(out);
        if (b->folded_bytes + f->passing_bytes > b->settings->memory_limit)
            return we_error_set(b->err, WE_OUT_OF_MEMORY,
                                "the constants it makes pass the session's memory limit of %lld bytes",
                                (long long)b->settings->memory_limit);
        void *data = we_arena_new(lasts ? &program->arena : &f->passing, bytes_of(out));
        if (!data)
            return we_error_no_memory(b->err);
        for (size_t i = 0; i < we_command_reads(command); i++) {
            int32_t tensor = we_command_read(command, i);
            f->memory[tensor] = (void *)program->tensors[tensor].data; /* only read */
        }
        f->memory[command->out] = data;
        we_run run = {
            .program = program, .memory = f->memory, .kernels = b->settings->kernels, .graph = b->graph};
        WE_TRY(b->settings->backend->execute(&run, command, b->err));
        out->data = data;
    }
    out->kind = WE_TENSOR_CONST;
    return WE_OK;
}

static bool any_folds(const we_program *program, size_t mark) {
    for (size_t c = mark; c < program->command_count; c++) {
        if (can_fold(program, &program->commands[c]))
            return true;
    }
    return false;
}

/* Fold what can be of the commands from `mark` on, which make `outs`, and close the gaps. */
static we_status fold_from(builder *b, size_t mark, const int32_t *outs, int32_t out_count) {
    we_program *program = b->program;
    size_t kept = mark, tensors = program->tensor_count;
    if (!any_folds(program, mark))
        return WE_OK;
    folding f = {.memory = we_memory_new(tensors * sizeof *f.memory),
                 .lasts = we_memory_new(tensors * sizeof *f.lasts)};
    we_status status = f.memory && f.lasts ? WE_OK : we_error_no_memory(b->err);
    if (status == WE_OK)
        find_lasting(program, mark, outs, out_count, f.lasts);
    for (size_t c = mark; c < program->command_count && status == WE_OK; c++) {
        we_command command = program->commands[c];
        if (can_fold(program, &command))
            status = fold(b, &command, &f);
        else
            program->commands[kept++] = command;
    }
    program->command_count = kept;
    we_arena_free(&f.passing);
    we_memory_free(f.memory);
    we_memory_free(f.lasts);
    return status;
}

/* ---- Nodes ---- */

/* What a claim reads and writes beyond the first input and output; NULL where that is nothing. */
static we_status find_ports(const builder *b, const we_claim_methods *claim, const we_lower *l,
                            const we_ports **out) {
    const we_node *node = l->call.node;
    uint32_t reads = claim->reads;
    for (int32_t i = 1; i < node->input_count && i < WE_CLAIM_INPUTS; i++) {
        bool varies = l->in[i] >= 0 && b->program->tensors[l->in[i]].kind != WE_TENSOR_CONST;
        reads |= varies || is_between(b, l->node) ? claim->reads_varying & 1u << i : 0;
    }
    *out = NULL;
    if (!reads && !claim->writes)
        return WE_OK;
    we_ports *ports = we_arena_new(&b->program->arena, sizeof *ports);
    if (!ports)
        return we_error_no_memory(b->err);
    memset(ports, -1, sizeof *ports);
    for (int32_t i = 1; i < node->input_count && i < WE_CLAIM_INPUTS; i++)
        ports->in[i] = reads >> i & 1 ? l->in[i] : -1;
    for (int32_t i = 1; i < node->output_count && i < WE_CLAIM_OUTPUTS; i++)
        ports->out[i] = (claim->writes >> i & 1) && node->outputs[i] >= 0 ? l->out[i] : -1;
    *out = ports;
    return WE_OK;
}

/* May bfloat16 be stored and multiplied, and are there kernels for it as good as those of float32? */
static bool has_narrow(const builder *b) {
    const uint32_t isas = b->machine.isas;
    return b->machine.precision == WE_PRECISION_MEDIUM &&
           (isas == 1u << WE_ISA_REF || (isas & (1u << WE_ISA_AVX512BF16 | 1u << WE_ISA_NEONBF16)));
}

/* The row's claim on this call, as a command without a kernel; false where it does not take it. */
static bool claim_call(const builder *b, const we_lower *l, int32_t row, we_command *out) {
    const we_claim_methods *methods = we_claim_row(row)->methods;
    *out =
        (we_command){.kind = WE_COMMAND_CLAIM, .node = l->node, .in = {l->in[0], -1, -1}, .out = l->out[0]};
    out->u.claim.claim = row;
    if (methods->second)
        out->in[1] = l->in[methods->second];
    if ((methods->product && b->settings->search == WE_SEARCH_REFERENCE) ||
        (methods->approximate && b->settings->machine.precision == WE_PRECISION_HIGHEST) ||
        (methods->narrow && !has_narrow(b)) || (is_between(b, l->node) && !methods->differentiable) ||
        !methods->accept(&l->call, &b->program->arena, &out->u.claim.parameters))
        return false;
    return find_ports(b, methods, l, &out->u.claim.ports) == WE_OK;
}

static void list_alternative(const builder *b, int32_t claim, const char *candidate, double predicted_ms) {
    we_alternatives *list = b->alternatives;
    for (size_t i = 0; i < list->count; i++) {
        if (list->at[i].claim == claim && list->at[i].candidate == candidate)
            return;
    }
    if (list->count < WE_MAX_ALTERNATIVES)
        list->at[list->count++] = (we_alternative){claim, candidate, predicted_ms, -1};
}

/* All candidates of the claim. */
static void list_claim(const builder *b, const we_command *claim) {
    we_candidate candidates[WE_MAX_CANDIDATES];
    const we_machine *machine = &b->machine;
    size_t count = we_space_candidates(machine, b->program, claim, false, candidates);
    for (size_t i = 0; i < count; i++)
        list_alternative(b, claim->u.claim.claim, candidates[i].name,
                         we_cost_candidate(machine, b->program, claim, &candidates[i]));
}

/* Nothing but constants, and a result worth keeping: it is folded, as a claim would not be. */
static bool will_fold(const builder *b, const we_lower *l) {
    const we_node *node = l->call.node;
    for (int32_t i = 0; i < node->input_count; i++) {
        if (l->in[i] >= 0 && b->program->tensors[l->in[i]].kind != WE_TENSOR_CONST)
            return false;
    }
    return bytes_of(&b->program->tensors[l->out[0]]) <= MAX_FOLDED / 4; /* what it is made by is larger */
}

/* The cheapest claims the back end has on this call, or the one that is wanted, as commands with their price:
 * one on tensors that are channels first, one channels last. kind stays UNARY where there is none. */
static void find_claims(const builder *b, const we_lower *l, we_command best[2]) {
    const we_alternative *wanted = choice_of(b, l->node);
    int32_t row = 0;
    best[0].kind = best[1].kind = WE_COMMAND_UNARY;
    if ((b->settings->flags & WE_SESSION_NO_CLAIMS) || will_fold(b, l) ||
        (is_between(b, l->node) && !we_grad_keeps_whole(l->call.node->op)))
        return;
    for (; we_claim_find(is_away(b, l->node) ? WE_OPENCL_NAME : b->settings->backend->name, l->call.node->op,
                         &row);
         row++) {
        we_command command, *rival = &best[we_claim_row(row)->methods->channels_last];
        if ((wanted && wanted->claim != row) || !claim_call(b, l, row, &command))
            continue;
        choose_command(b, wanted ? wanted->candidate : NULL, &command);
        if (rival->kind != WE_COMMAND_CLAIM || command.predicted_ms < rival->predicted_ms)
            *rival = command;
        if (b->alternatives)
            list_claim(b, &command);
    }
}

/* Inputs past the first that are to be channels last. */
static we_status turn_ports(we_lower *l, we_command *claim, const int32_t *last) {
    const we_claim_methods *methods = we_claim_of(claim);
    if (!methods->reads_last)
        return WE_OK;
    we_ports *ports = we_arena_copy(&l->program->arena, claim->u.claim.ports, sizeof *claim->u.claim.ports);
    for (int32_t i = 1; ports && i < WE_CLAIM_INPUTS; i++) {
        if (methods->reads_last >> i & 1 && ports->in[i] >= 0)
            ports->in[i] = we_emit_transpose(l, ports->in[i], last, WE_NEW);
    }
    claim->u.claim.ports = ports;
    return ports ? l->status : we_error_no_memory(l->call.err);
}

/* The claim between rasters that bring its tensors from channels first to channels last and back. */
static we_status emit_channels_last(we_lower *l, we_command *claim) {
    const we_claim_methods *methods = we_claim_of(claim);
    const we_tensor out = we_lower_tensor(l, claim->out);
    int32_t last[WE_MAX_RANK] = {0}, first[WE_MAX_RANK] = {0, out.rank - 1};
    int32_t node_out = claim->out;
    int64_t dims[WE_MAX_RANK];
    for (int32_t i = 1; i < out.rank; i++)
        last[i] = i + 1 < out.rank ? i + 1 : 1;
    for (int32_t i = 2; i < out.rank; i++)
        first[i] = i - 1;
    for (int32_t i = 0; i < out.rank; i++)
        dims[i] = out.dims[last[i]];
    claim->u.claim.plain = methods->reads_plain && methods->reads_plain(claim->u.claim.parameters);
    if (!claim->u.claim.plain)
        claim->in[0] = we_emit_transpose(l, claim->in[0], last, WE_NEW);
    WE_TRY(turn_ports(l, claim, last));
    if (methods->second)
        claim->in[1] = we_emit_transpose(l, claim->in[1], last, WE_NEW);
    claim->out = we_lower_temp(l, out.dtype, out.rank, dims);
    claim->u.claim.channels = dims[out.rank - 1];
    if (l->status == WE_OK)
        l->status = we_program_command(l->program, claim, l->call.err);
    we_emit_transpose(l, claim->out, first, node_out);
    return l->status;
}

/* Predicted milliseconds of the commands from the mark on, once what is constant is folded. */
static double price_from(const builder *b, size_t mark, const char *wanted) {
    we_program *program = b->program;
    double ms = 0;
    foresee(program, mark, true);
    for (size_t c = mark; c < program->command_count; c++) {
        we_command command = program->commands[c];
        if (program->tensors[command.out].kind == WE_TENSOR_CONST)
            continue;
        choose_command(b, wanted, &command);
        ms += command.predicted_ms;
    }
    foresee(program, mark, false);
    return ms;
}

/* The decomposition as it is chosen, and with every candidate of one of its commands. */
static void list_decomposition(const builder *b, size_t mark) {
    bool chosen = false;
    for (size_t c = mark; c < b->program->command_count; c++) {
        we_candidate candidates[WE_MAX_CANDIDATES];
        size_t count =
            we_space_candidates(&b->machine, b->program, &b->program->commands[c], false, candidates);
        for (size_t i = 0; i < count && count > 1; i++)
            list_alternative(b, -1, candidates[i].name, price_from(b, mark, candidates[i].name));
        chosen = chosen || count > 1;
    }
    if (!chosen)
        list_alternative(b, -1, NULL, price_from(b, mark, NULL));
}

/* The caller would rather have little memory than little time, and the claim is for that. */
static bool is_compact(const builder *b, const we_command *claim) {
    return (b->settings->flags & WE_SESSION_LOW_MEMORY) && we_claim_of(claim)->compact;
}

static bool is_claimed(const we_command *claim) {
    return claim->kind == WE_COMMAND_CLAIM;
}

/* What the claims and the decomposition cost in each layout. */
static we_layout_ways ways_of(const builder *b, const we_lower *l, const we_command claims[2], double ms) {
    const we_claim_methods *last = is_claimed(&claims[1]) ? we_claim_of(&claims[1]) : NULL;
    bool wanted = choice_of(b, l->node) != NULL; /* then there is one way */
    we_layout_ways ways = {.role = last ? WE_LAYOUT_CHOICE : WE_LAYOUT_FIRST, .ms = {ms, INFINITY}};
    if (is_claimed(&claims[0]))
        ways.ms[0] = wanted ? claims[0].predicted_ms : fmin(ms, claims[0].predicted_ms);
    if (last) {
        ways.ms[0] = wanted ? INFINITY : ways.ms[0];
        ways.ms[1] = claims[1].predicted_ms;
        ways.second = last->second;
        ways.reads_plain = last->reads_plain && last->reads_plain(claims[1].u.claim.parameters);
    }
    ways.last = ways.ms[1] < ways.ms[0];
    return ways;
}

static we_status put_claim(const builder *b, we_lower *l, we_command *claim, bool last, size_t command_mark,
                           size_t tensor_mark) {
    b->program->command_count = command_mark;
    b->program->tensor_count = tensor_mark;
    return last ? emit_channels_last(l, claim) : we_program_command(b->program, claim, b->err);
}

/* Replace the commands from the marks on by one of the back end's claims, if it costs less, is wanted, or
 * runs in the layout that is. */
static we_status consider_claims(const builder *b, we_lower *l, size_t command_mark, size_t tensor_mark) {
    double ms = price_from(b, command_mark, NULL);
    we_command claims[2];
    if (b->alternatives)
        list_decomposition(b, command_mark);
    find_claims(b, l, claims);
    we_layout_ways *ways = &b->ways[l->node];
    *ways = ways_of(b, l, claims, ms);
    bool last = ways->role == WE_LAYOUT_CHOICE && b->last ? b->last[l->node] : ways->last;
    we_command *claim = &claims[last];
    if (!last && (!is_claimed(claim) || (claim->predicted_ms > ways->ms[0] && !is_compact(b, claim)))) {
        if (ways->role == WE_LAYOUT_FIRST)
            ways->role = we_layout_role_of(b->program, command_mark, b->program->command_count);
        return WE_OK;
    }
    return put_claim(b, l, claim, last, command_mark, tensor_mark);
}

/* A node that a rule lowers by the way: the cheapest claim in any layout, if it costs less. */
static we_status lower_nested(we_lower *outer, const we_node *node, const int32_t *in, int32_t out) {
    const builder *b = outer->nesting;
    we_tensor copies[WE_CLAIM_INPUTS];
    const we_tensor *views[WE_CLAIM_INPUTS] = {NULL};
    for (int32_t i = 0; i < node->input_count; i++) {
        copies[i] = b->program->tensors[in[i]];
        views[i] = &copies[i];
    }
    we_lower l = *outer;
    l.in = in;
    l.out = &out;
    l.call.node = node;
    l.call.in = views;
    size_t command_mark = b->program->command_count, tensor_mark = b->program->tensor_count;
    we_rule_of(node->op)(&l);
    WE_TRY(l.status);
    we_command claims[2];
    find_claims(b, &l, claims);
    bool last = is_claimed(&claims[1]) &&
                (!is_claimed(&claims[0]) || claims[1].predicted_ms < claims[0].predicted_ms);
    if (!is_claimed(&claims[last]) || claims[last].predicted_ms > price_from(b, command_mark, NULL))
        return WE_OK;
    return put_claim(b, &l, &claims[last], last, command_mark, tensor_mark);
}

/* Does the graph's statement about a value hold? */
static we_status check_stated(const builder *b, const we_value *value, const we_tensor *tensor) {
    bool fits = !value->typed || (value->dtype == tensor->dtype && value->rank == tensor->rank);
    for (int32_t i = 0; fits && value->typed && i < tensor->rank; i++)
        fits = value->dims[i] == -1 || value->dims[i] == tensor->dims[i];
    return fits
               ? WE_OK
               : we_error_set(b->err, WE_INVALID_MODEL,
                              "output '%.100s' has another type or shape than the model states", value->name);
}

static we_status add_outputs(builder *b, const we_node *node, const we_tensor *inferred, int32_t *out) {
    for (int32_t i = 0; i < node->output_count; i++) {
        we_tensor tensor = inferred[i];
        tensor.kind = WE_TENSOR_TEMP;
        tensor.alias_of = -1;
        WE_TRY(we_program_tensor(b->program, &tensor, &out[i], b->err));
        if (node->outputs[i] >= 0) {
            WE_TRY(check_stated(b, &b->graph->values[node->outputs[i]], &tensor));
            b->tensor_of[node->outputs[i]] = out[i];
        }
    }
    return WE_OK;
}

/* Scratch of one node, sized by its links. */
typedef struct links {
    we_tensor *in_copies, *inferred;
    const we_tensor **in_views;
    int32_t *in, *out;
    int32_t *wide_out; /* what the rule fills: the outputs, or float32 versions of them */
} links;

static bool is_half(we_dtype dtype) {
    return dtype == WE_F16 || dtype == WE_BF16;
}

/* A composite of 16-bit floats is computed in float32 and rounded once: give its rule float32 inputs, folded
 * where they are constants, and float32 outputs to fill. */
static we_status widen(builder *b, we_lower *l, links *k) {
    const we_node *node = l->call.node;
    size_t mark = b->program->command_count;
    for (int32_t i = 0; i < node->input_count; i++) {
        if (k->in[i] >= 0 && is_half(k->in_copies[i].dtype))
            k->in[i] = we_emit_cast(l, k->in[i], WE_F32, WE_NEW);
    }
    for (int32_t i = 0; i < node->output_count; i++) {
        if (is_half(k->inferred[i].dtype))
            k->wide_out[i] = we_lower_temp(l, WE_F32, k->inferred[i].rank, k->inferred[i].dims);
    }
    WE_TRY(l->status);
    WE_TRY(fold_from(b, mark, k->in, node->input_count));
    for (int32_t i = 0; i < node->input_count; i++) {
        if (k->in[i] >= 0)
            k->in_copies[i] = b->program->tensors[k->in[i]];
    }
    return WE_OK;
}

/* A rule need not fill an output that is omitted, so such a one must not be read. */
static we_status narrow(we_lower *l, const links *k) {
    for (int32_t i = 0; i < l->call.node->output_count; i++) {
        if (k->wide_out[i] != k->out[i] && l->call.node->outputs[i] >= 0)
            we_emit_cast(l, k->wide_out[i], k->inferred[i].dtype, k->out[i]);
    }
    return l->status;
}

/* An input that stands for another step's result must not be taken for an input. */
static we_tensor as_in_truth(const builder *b, we_tensor tensor) {
    if (tensor.kind == WE_TENSOR_INPUT && b->settings->inner && b->settings->inner[tensor.index])
        tensor.kind = WE_TENSOR_TEMP;
    return tensor;
}

/* In the place it is lowered for. The device's price is finite where it runs all of the node. */
static void price_node(const builder *b, int32_t node, size_t mark) {
    double ms = price_from(b, mark, NULL);
    for (size_t c = mark; c < b->program->command_count && is_away(b, node); c++) {
        if (!we_opencl_takes(b->settings->device, b->program, &b->program->commands[c]))
            ms = INFINITY;
    }
    *(is_away(b, node) ? &b->prices[node].device : &b->prices[node].cpu) = ms;
}

static we_status lower_links(builder *b, int32_t index, links *k) {
    const we_node *node = &b->graph->nodes[index];
    for (int32_t i = 0; i < node->input_count; i++) {
        k->in[i] = node->inputs[i] < 0 ? -1 : b->tensor_of[node->inputs[i]];
        if (k->in[i] >= 0) {
            k->in_copies[i] = as_in_truth(b, b->program->tensors[k->in[i]]);
            k->in_views[i] = &k->in_copies[i];
        }
    }
    we_lower l = {.program = b->program,
                  .node = index,
                  .in = k->in,
                  .out = k->wide_out,
                  .kernels = b->settings->kernels,
                  .nested = lower_nested,
                  .nesting = b};
    l.call = (we_call){.graph = b->graph, .node = node, .in = k->in_views, .err = b->err};
    WE_TRY(we_shape_infer(&l.call, k->inferred));
    WE_TRY(add_outputs(b, node, k->inferred, k->out));
    memcpy(k->wide_out, k->out, (size_t)node->output_count * sizeof *k->out);
    if (we_op_is_composite(node->op) && node->op != WE_OP_Gradient) /* which asks what its very inputs do */
        WE_TRY(widen(b, &l, k));
    size_t command_mark = b->program->command_count, tensor_mark = b->program->tensor_count;
    we_rule_of(node->op)(&l);
    WE_TRY(l.status);
    WE_TRY(consider_claims(b, &l, command_mark, tensor_mark));
    WE_TRY(narrow(&l, k));
    WE_TRY(fold_from(b, command_mark, k->out, node->output_count));
    if (b->prices)
        price_node(b, index, command_mark);
    return WE_OK;
}

static we_status lower_node(builder *b, int32_t index) {
    const we_node *node = &b->graph->nodes[index];
    size_t in = (size_t)node->input_count + 1, out = (size_t)node->output_count;
    we_arena arena = {0};
    links k = {
        .in_copies = we_arena_new(&arena, in * sizeof *k.in_copies),
        .inferred = we_arena_new(&arena, out * sizeof *k.inferred),
        .in_views = we_arena_new(&arena, in * sizeof *k.in_views),
        .in = we_arena_new(&arena, in * sizeof *k.in),
        .out = we_arena_new(&arena, out * sizeof *k.out),
        .wide_out = we_arena_new(&arena, out * sizeof *k.wide_out),
    };
    we_status status = k.in_copies && k.inferred && k.in_views && k.in && k.out && k.wide_out
                           ? lower_links(b, index, &k)
                           : we_error_no_memory(b->err);
    if (status != WE_OK)
        we_error_locate(b->err, we_op_name(node->op), node->name);
    we_arena_free(&arena);
    return status;
}

/* ---- The program as a whole ---- */

static void drop_removed(we_program *program) {
    size_t kept = 0;
    for (size_t c = 0; c < program->command_count; c++) {
        if (!program->commands[c].removed)
            program->commands[kept++] = program->commands[c];
    }
    program->command_count = kept;
}

/* An output is written in place if its tensor is the whole of its own memory and no other output claims it.
 */
static void mark_direct(const we_program *program, size_t count, const int32_t *outputs, bool *direct,
                        bool *external) {
    for (size_t i = 0; i < count; i++) {
        const we_tensor *tensor = &program->tensors[outputs[i]];
        direct[i] = tensor->kind == WE_TENSOR_TEMP && tensor->alias_of < 0 && !external[outputs[i]];
        external[outputs[i]] = external[outputs[i]] || direct[i];
    }
}

/* List the tensors that lie in inputs and in outputs of the caller's. */
static we_status list_moving(builder *b, we_prepared *prepared, const bool *external) {
    we_program *program = b->program;
    int64_t offset;
    prepared->moving = we_arena_new(&program->arena, program->tensor_count * sizeof *prepared->moving);
    if (!prepared->moving)
        return we_error_no_memory(b->err);
    for (int32_t roots = 1; roots >= 0; roots--) {
        for (int32_t t = 0; t < (int32_t)program->tensor_count; t++) {
            int32_t root = we_program_root(program, t, &offset);
            bool moves = program->tensors[root].kind == WE_TENSOR_INPUT || external[root];
            if (!moves || (root == t) != roots)
                continue;
            offset *= (int64_t)we_dtype_size(program->tensors[t].dtype);
            prepared->moving[prepared->moving_count++] = (we_moving){t, root, offset};
        }
    }
    return WE_OK;
}

static we_status optimise(builder *b, we_prepared *prepared, bool *kept) {
    we_program *program = b->program;
    uint32_t flags = b->settings->flags;
    size_t outputs = b->graph->output_count;
    for (size_t i = 0; i < outputs; i++)
        kept[prepared->outputs[i]] = true;
    prepared->merging.after = we_program_traffic(program);
    if (!(flags & WE_SESSION_NO_MERGE)) {
        we_merge_settings merging = {.vertical = !(flags & WE_SESSION_NO_VERTICAL),
                                     .horizontal = !(flags & WE_SESSION_NO_HORIZONTAL),
                                     .verify = (flags & WE_SESSION_VERIFY) != 0};
        WE_TRY(we_program_merge(program, kept, &merging, &prepared->merging, b->err));
    }
    if (!(flags & WE_SESSION_NO_FUSE)) {
        WE_TRY(we_plan_fuse(program, kept, b->err));
        drop_removed(program);
        WE_TRY(we_plan_chain(program, kept, b->err));
        drop_removed(program);
        WE_TRY(we_plan_place(program, kept, b->err));
    }
    drop_removed(program);
    return WE_OK;
}

/* Choose how each command runs and how tensors are stored, and let the back end get ready; the scratch each
 * command needs. */
static we_status choose(const builder *b, we_prepared *prepared, const bool *kept, size_t *scratch_bytes) {
    const we_settings *settings = b->settings;
    we_program *program = b->program;
    for (size_t c = 0; c < program->command_count; c++) {
        we_command *command = &program->commands[c];
        const we_alternative *wanted = choice_of(b, command->node);
        choose_command(b, wanted ? wanted->candidate : NULL, command);
    }
    bool medium = b->machine.precision == WE_PRECISION_MEDIUM && !(settings->flags & WE_SESSION_NO_FUSE);
    if (medium && (b->away || has_narrow(b)))
        WE_TRY(we_plan_narrow(program, has_narrow(b), kept, b->err));
    if (b->away && !(settings->flags & WE_SESSION_NO_FUSE)) {
        WE_TRY(we_plan_absorb(program, kept, b->err));
        drop_removed(program);
    }
    for (size_t c = 0; c < program->command_count; c++) {
        we_command *command = &program->commands[c];
        if (command->away)
            continue;
        WE_TRY(settings->backend->prepare(program, command, b->err));
        size_t scratch = settings->backend->scratch_size(program, command, settings->machine.threads);
        scratch_bytes[c] = scratch;
        prepared->scratch_bytes = scratch > prepared->scratch_bytes ? scratch : prepared->scratch_bytes;
    }
    return WE_OK;
}

/* Whether the session wants alternatives timed, and until when. */
static double tune_until_s(const we_settings *settings) {
    bool times = settings->search == WE_SEARCH_MEASURE || settings->search == WE_SEARCH_EXHAUSTIVE;
    return times ? we_clock_now_s() + settings->search_s : 0;
}

static we_status plan(builder *b, we_prepared *prepared, bool *kept, bool *external, size_t *scratch_bytes) {
    we_program *program = b->program;
    bool reuse = !(b->settings->flags & WE_SESSION_NO_REUSE);
    WE_TRY(choose(b, prepared, kept, scratch_bytes));
    if (reuse)
        WE_TRY(we_plan_in_place(program, kept, b->err));
    mark_direct(program, b->graph->output_count, prepared->outputs, prepared->direct, external);
    WE_TRY(list_moving(b, prepared, external));
    WE_TRY(we_plan_memory(program, kept, external, scratch_bytes, reuse, &prepared->plan, b->err));
    const we_opencl_manner manner = {.parameters = b->settings->device_parameters,
                                     .tune_until_s = tune_until_s(b->settings),
                                     .narrow = b->machine.precision == WE_PRECISION_MEDIUM};
    return b->away ? we_offload_new(b->settings->device, &manner, program, &prepared->plan, prepared->outputs,
                                    b->graph->output_count, &prepared->offload, b->err)
                   : WE_OK;
}

/* The name of the graph's value in that tensor, "" for an intermediate of an operator. */
static const char *name_of(const builder *b, int32_t tensor) {
    for (size_t v = 0; v < b->graph->value_count; v++) {
        if (b->tensor_of[v] == tensor && b->graph->values[v].kind == WE_VALUE_NODE)
            return b->graph->values[v].name;
    }
    return "";
}

/* A hostile model must not get the memory it asks for. */
static we_status check_limit(const builder *b, we_prepared *prepared) {
    const we_program *program = b->program;
    prepared->run_bytes = prepared->plan.arena_bytes;
    for (size_t i = 0; i < b->graph->output_count; i++)
        prepared->run_bytes += (int64_t)bytes_of(&program->tensors[prepared->outputs[i]]);
    if (prepared->run_bytes <= b->settings->memory_limit)
        return WE_OK;
    int32_t largest = 0;
    for (size_t t = 0; t < program->tensor_count; t++) {
        if (bytes_of(&program->tensors[t]) > bytes_of(&program->tensors[largest]))
            largest = (int32_t)t;
    }
    return we_error_set(
        b->err, WE_OUT_OF_MEMORY,
        "a run needs %lld bytes, %zu of them for tensor '%.100s', more than the session's memory limit "
        "of %lld: raise memory_limit if the model is to be trusted",
        (long long)prepared->run_bytes, bytes_of(&program->tensors[largest]), name_of(b, largest),
        (long long)b->settings->memory_limit);
}

static we_status lower_graph(builder *b, const we_view *shapes, we_prepared *prepared, size_t *reached) {
    WE_TRY(add_inputs(b, shapes, prepared));
    WE_TRY(add_weights(b));
    for (*reached = 0; *reached < b->graph->node_count; ++*reached) {
        if (!we_node_is_dead(&b->graph->nodes[*reached]))
            WE_TRY(lower_node(b, (int32_t)*reached));
    }
    return WE_OK;
}

static we_status finish(builder *b, we_prepared *prepared) {
    for (size_t i = 0; i < b->graph->output_count; i++)
        prepared->outputs[i] = b->tensor_of[b->graph->outputs[i]];
    prepared->merging = (we_merge_report){.before = we_program_traffic(b->program)};
    if (!(b->settings->flags & (WE_SESSION_NO_MERGE | WE_SESSION_NO_VERTICAL)))
        WE_TRY(we_program_move_permutations(b->program, b->err));
    size_t tensors = b->program->tensor_count + WE_MERGE_TENSORS * b->program->command_count;
    bool *flags = we_memory_new(2 * tensors * sizeof *flags);
    if (!flags)
        return we_error_no_memory(b->err);
    we_status status = optimise(b, prepared, flags);
    size_t *scratch_bytes =
        status == WE_OK ? we_memory_new(b->program->command_count * sizeof *scratch_bytes) : NULL;
    if (status == WE_OK)
        status = scratch_bytes ? plan(b, prepared, flags, flags + tensors, scratch_bytes)
                               : we_error_no_memory(b->err);
    we_memory_free(scratch_bytes);
    we_memory_free(flags);
    return status == WE_OK ? check_limit(b, prepared) : status;
}

/* What a Gradient node differentiates. */
static we_status find_between(builder *b, we_arena *arena) {
    bool *values = we_memory_new(2 * b->graph->value_count * sizeof *values);
    bool *nodes = we_arena_new(arena, b->graph->node_count * sizeof *nodes);
    bool known = values && nodes;
    if (known && we_grad_between(b->graph, values, nodes))
        b->between = nodes;
    we_memory_free(values);
    return known ? WE_OK : we_error_no_memory(b->err);
}

/* A builder of a new program without commands. */
static we_status begin(const we_graph *graph, const we_settings *settings, we_prepared **out, builder *b,
                       we_error *err) {
    we_prepared *prepared = we_memory_new(sizeof *prepared);
    *out = prepared;
    if (!prepared)
        return we_error_no_memory(err);
    prepared->graph = graph;
    we_arena *arena = &prepared->program.arena;
    prepared->program.packs = settings->packs;
    prepared->program.pool = settings->pool;
    prepared->inputs = we_arena_new(arena, graph->input_count * sizeof *prepared->inputs);
    prepared->outputs = we_arena_new(arena, graph->output_count * sizeof *prepared->outputs);
    prepared->direct = we_arena_new(arena, graph->output_count * sizeof *prepared->direct);
    prepared->tensor_of = we_arena_new(arena, graph->value_count * sizeof *prepared->tensor_of);
    *b = (builder){.graph = graph,
                   .settings = settings,
                   .program = &prepared->program,
                   .machine = settings->machine,
                   .ways = we_arena_new(arena, graph->node_count * sizeof *b->ways),
                   .tensor_of = prepared->tensor_of,
                   .err = err};
    if (!prepared->inputs || !prepared->outputs || !prepared->direct || !b->tensor_of || !b->ways)
        return we_error_no_memory(err);
    WE_TRY(find_between(b, arena));
    prepared->between = b->between;
    return WE_OK;
}

static we_status price_all(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                           const bool *away, we_placing_price *prices, we_prepared **out, builder *b,
                           size_t *reached, we_error *err) {
    WE_TRY(begin(graph, settings, out, b, err));
    b->away = away;
    b->prices = prices;
    return lower_graph(b, shapes, *out, reached);
}

/* Where each node is to run. What it costs on the CPU and on the device shows when the graph is lowered for
 * either. */
static we_status place_nodes(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                             we_placing_price *prices, bool *away, we_prepared **out, builder *b,
                             size_t *reached, we_error *err) {
    WE_TRY(price_all(graph, settings, shapes, NULL, prices, out, b, reached, err));
    we_prepared_free(*out);
    *out = NULL;
    memset(away, true, graph->node_count * sizeof *away);
    WE_TRY(price_all(graph, settings, shapes, away, prices, out, b, reached, err));
    WE_TRY(
        we_placing_assign(graph, b->program, b->tensor_of, &settings->device_parameters, prices, away, err));
    we_prepared_free(*out);
    *out = NULL;
    return WE_OK;
}

/* Lower the graph; where nodes run faster together than each by itself would choose, lower it anew. What is
 * chosen does not depend on the switches of merging, so that results do not either. */
static we_status lower_best(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                            we_alternatives *alternatives, bool *last, const bool *away, we_prepared **out,
                            builder *b, size_t *reached, we_error *err) {
    bool better = false;
    WE_TRY(begin(graph, settings, out, b, err));
    b->alternatives = alternatives;
    b->away = away;
    WE_TRY(lower_graph(b, shapes, *out, reached));
    if (alternatives)
        return WE_OK;
    WE_TRY(we_layouts_assign(graph, &b->machine, b->program, b->tensor_of, b->ways, last, &better, err));
    if (!better)
        return WE_OK;
    we_prepared_free(*out);
    WE_TRY(begin(graph, settings, out, b, err));
    b->last = last;
    b->away = away;
    return lower_graph(b, shapes, *out, reached);
}

/* Flags and prices per node while a graph is prepared. */
typedef struct node_notes {
    bool *last, *away;
    we_placing_price *prices;
} node_notes;

static bool any(const bool *flags, size_t count) {
    return count > 0 && memchr(flags, true, count) != NULL;
}

/* Keep what the choice was between, for who asks. */
static we_status report_placing(const we_graph *graph, const we_settings *settings, const node_notes *notes,
                                we_prepared *prepared, we_error *err) {
    we_arena *arena = &prepared->program.arena;
    prepared->placing = (we_placing_report){
        .prices = we_arena_copy(arena, notes->prices, graph->node_count * sizeof *notes->prices),
        .away = we_arena_copy(arena, notes->away, graph->node_count * sizeof *notes->away),
        .parameters = settings->device_parameters};
    return prepared->placing.prices && prepared->placing.away ? WE_OK : we_error_no_memory(err);
}

/* Nodes are placed, then lowered where they are, then the program is finished. */
static we_status prepare_noted(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                               we_alternatives *alternatives, node_notes *notes, we_prepared **out,
                               size_t *reached, we_error *err) {
    builder b;
    bool chosen = settings->placing == WE_PLACE_AUTO && settings->device && !alternatives;
    if (settings->placing == WE_PLACE_DEVICE)
        memset(notes->away, true, graph->node_count * sizeof *notes->away);
    if (chosen)
        WE_TRY(place_nodes(graph, settings, shapes, notes->prices, notes->away, out, &b, reached, err));
    WE_TRY(lower_best(graph, settings, shapes, alternatives, notes->last,
                      any(notes->away, graph->node_count) ? notes->away : NULL, out, &b, reached, err));
    if (chosen)
        WE_TRY(report_placing(graph, settings, notes, *out, err));
    return finish(&b, *out);
}

/* ---- Layers on bytes ---- */

/* Predicted milliseconds of every node by itself, in the better layout. *limited: it stands for more
 * constants than the session has room for. */
static we_status price_nodes(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                             double *ms, bool *limited, we_error *err) {
    builder b;
    we_prepared *prepared;
    size_t reached;
    we_status status = begin(graph, settings, &prepared, &b, err);
    if (status == WE_OK)
        status = lower_graph(&b, shapes, prepared, &reached);
    for (size_t n = 0; n < graph->node_count && status == WE_OK; n++)
        ms[n] = b.ways[n].role == WE_LAYOUT_CHOICE ? fmin(b.ways[n].ms[0], b.ways[n].ms[1]) : b.ways[n].ms[0];
    *limited = prepared && b.folded_bytes > settings->memory_limit;
    we_prepared_free(prepared);
    return status;
}

/* Keep the layers as they were given that cost more as one operator than their parts do. */
static void choose_layers(we_quantised *q, const double *given_ms, const double *layer_ms) {
    for (size_t i = 0; i < q->layer_count; i++) {
        we_quantised_layer *layer = &q->layers[i];
        layer->ms = layer_ms[layer->node];
        for (int32_t p = 0; p < layer->part_count; p++)
            layer->parts_ms += given_ms[layer->parts[p]];
        layer->kept = layer->ms > layer->parts_ms;
    }
    we_quantised_rewrite(q);
}

/* *limited: the given graph has no price as it would not fit the session; its layers on bytes may. */
static we_status compare_layers(we_quantised *q, const we_settings *settings, const we_view *shapes,
                                bool *limited, we_error *err) {
    size_t nodes = q->given->node_count;
    double *ms = we_memory_new(2 * nodes * sizeof *ms);
    bool none;
    we_status status =
        ms ? price_nodes(&q->graph, settings, shapes, ms + nodes, &none, err) : we_error_no_memory(err);
    if (status == WE_OK)
        status = price_nodes(q->given, settings, shapes, ms, limited, err);
    if (status == WE_OK)
        choose_layers(q, ms, ms + nodes);
    we_memory_free(ms);
    return status;
}

/* The graph with its layers on bytes, where they are the cheaper. Whatever stands in the way is left for the
 * given graph to say. */
static we_status find_quantised(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                                we_quantised **out, we_error *err) {
    const uint32_t off = WE_SESSION_NO_CLAIMS | WE_SESSION_NO_FUSE;
    *out = NULL;
    if ((settings->flags & off) || settings->search == WE_SEARCH_REFERENCE || settings->choices ||
        settings->placing != WE_PLACE_CPU)
        return WE_OK;
    WE_TRY(we_quantised_new(graph, out, err));
    if (!*out)
        return WE_OK;
    bool limited = false;
    we_status status = compare_layers(*out, settings, shapes, &limited, err);
    if (status == WE_OK)
        return WE_OK;
    if (!limited) {
        we_quantised_free(*out);
        *out = NULL;
    }
    if (status == WE_OUT_OF_MEMORY && !limited)
        return status;
    we_error_clear(err);
    return WE_OK;
}

static we_status prepare_graph(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                               we_alternatives *alternatives, we_prepared **out, size_t *reached,
                               we_error *err) {
    size_t unwanted, count = graph->node_count;
    node_notes notes = {.last = we_memory_new(count * sizeof *notes.last),
                        .away = we_memory_new(count * sizeof *notes.away),
                        .prices = we_memory_new(count * sizeof *notes.prices)};
    *out = NULL;
    we_status status = notes.last && notes.away && notes.prices
                           ? prepare_noted(graph, settings, shapes, alternatives, &notes, out,
                                           reached ? reached : &unwanted, err)
                           : we_error_no_memory(err);
    we_memory_free(notes.last);
    we_memory_free(notes.away);
    we_memory_free(notes.prices);
    if (status != WE_OK) {
        we_prepared_free(*out);
        *out = NULL;
    }
    return status;
}

static we_status prepare(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                         we_alternatives *alternatives, we_prepared **out, size_t *reached, we_error *err) {
    we_quantised *quantised;
    *out = NULL;
    WE_TRY(find_quantised(graph, settings, shapes, &quantised, err));
    we_status status = prepare_graph(quantised ? &quantised->graph : graph, settings, shapes, alternatives,
                                     out, reached, err);
    if (status == WE_OK)
        (*out)->quantised = quantised;
    else
        we_quantised_free(quantised);
    return status;
}

we_status we_prepare(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                     we_prepared **out, size_t *reached, we_error *err) {
    return prepare(graph, settings, shapes, NULL, out, reached, err);
}

we_status we_prepare_alternatives(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                                  we_alternatives *out, we_error *err) {
    we_prepared *prepared;
    out->count = 0;
    WE_TRY(prepare(graph, settings, shapes, out, &prepared, NULL, err));
    we_prepared_free(prepared);
    return WE_OK;
}

void we_prepared_free(we_prepared *prepared) {
    if (!prepared)
        return;
    we_offload_free(prepared->offload);
    we_quantised_free(prepared->quantised);
    we_program_free(&prepared->program);
    we_plan_free(&prepared->plan);
    we_arena_free(&prepared->trial_arena);
    we_memory_free(prepared);
}

/* ---- Execution ---- */

we_status we_prepared_workspace(const we_prepared *prepared, we_workspace **out, we_error *err) {
    *out = we_workspace_new(&prepared->program, &prepared->plan);
    if (!*out)
        return we_error_no_memory(err);
    we_status status =
        prepared->offload ? we_opencl_space_new(prepared->offload->score, &(*out)->away, err) : WE_OK;
    if (status != WE_OK) {
        we_workspace_free(*out);
        *out = NULL;
    }
    return status;
}

static void place_moving(const we_prepared *prepared, void **memory, const we_view *inputs) {
    const we_tensor *tensors = prepared->program.tensors;
    for (size_t i = 0; i < prepared->moving_count; i++) {
        const we_moving *m = &prepared->moving[i];
        if (m->tensor != m->root)
            memory[m->tensor] = (char *)memory[m->root] + m->offset;
        else if (tensors[m->root].kind == WE_TENSOR_INPUT)
            memory[m->root] = inputs[tensors[m->root].index].data;
    }
}

static we_status make_outputs(const we_prepared *prepared, const we_graph *graph, void **memory,
                              we_block **outputs, we_error *err) {
    for (size_t i = 0; i < graph->output_count; i++) {
        const we_tensor *tensor = &prepared->program.tensors[prepared->outputs[i]];
        if (!outputs[i])
            WE_TRY(we_block_new_dirty(tensor->dtype, tensor->rank, tensor->dims, &outputs[i], err));
        if (prepared->direct[i])
            memory[prepared->outputs[i]] = we_block_view(outputs[i]).data;
    }
    return WE_OK;
}

/* What runs a command: on the CPU or by the device's queue, which a profile waits for. */
static we_status execute(const we_run *run, const we_settings *settings, we_opencl_space *away,
                         const we_command *command, we_error *err) {
    if (!command->away)
        return settings->backend->execute(run, command, err);
    return we_opencl_play(away, (int32_t)(command - run->program->commands), err);
}

static we_status execute_timed(const we_run *run, const we_settings *settings, we_opencl_space *away,
                               const we_command *command, we_error *err) {
    const we_node *node = &run->graph->nodes[command->node];
    we_profile_event event = {.node = node->name,
                              .op = we_op_name(node->op),
                              .command = we_command_name(command->kind),
                              .candidate = command->candidate ? command->candidate : ""};
    int64_t recording;
    bool timed = we_profile_begin(settings->profile, &event, &recording);
    we_status status = execute(run, settings, away, command, err);
    if (timed && command->away && status == WE_OK)
        status = we_opencl_finish(away, run->graph, err);
    if (timed)
        we_profile_end(settings->profile, &event, recording);
    return status;
}

typedef struct running {
    we_run run;
    const we_prepared *prepared;
    const we_settings *settings;
    const we_workspace *space;
    bool timed;
} running;

static we_status run_command(running *r, size_t c, we_error *err) {
    int64_t offset = r->prepared->plan.scratch[c].offset;
    r->run.scratch = offset < 0 ? NULL : r->space->arena + offset;
    return (r->timed ? execute_timed : execute)(&r->run, r->settings, r->space->away,
                                                &r->prepared->program.commands[c], err);
}

/* With copies between the CPU and the device. Memory that one is under way from or to is left alone. */
static we_status run_steps(running *r, we_error *err) {
    const we_offload *offload = r->prepared->offload;
    we_opencl_space *away = r->space->away;
    bool copying = false;
    for (size_t i = 0; i < offload->step_count; i++) {
        const we_offload_step *step = &offload->steps[i];
        if (step->kind == WE_STEP_RUN) {
            bool waits = copying && !r->prepared->program.commands[step->index].away;
            if (waits)
                WE_TRY(we_opencl_finish(away, r->run.graph, err));
            copying = copying && !waits;
            WE_TRY(run_command(r, (size_t)step->index, err));
            continue;
        }
        copying = true;
        void *memory = r->run.memory[step->index];
        WE_TRY(step->kind == WE_STEP_TO_DEVICE ? we_opencl_upload(away, step->index, memory, err)
                                               : we_opencl_download(away, step->index, memory, err));
    }
    return WE_OK;
}

static we_status run_offloaded(running *r, we_error *err) {
    we_status status = run_steps(r, err),
              finished = we_opencl_finish(r->space->away, r->run.graph, status == WE_OK ? err : NULL);
    return status == WE_OK ? finished : status;
}

we_status we_prepared_run(const we_prepared *prepared, const we_settings *settings, we_pool *pool,
                          const we_workspace *space, const we_view *inputs, we_block **outputs,
                          we_error *err) {
    const we_program *program = &prepared->program;
    const we_graph *graph = prepared->graph;
    void **memory = space->memory;
    WE_TRY(make_outputs(prepared, graph, memory, outputs, err));
    place_moving(prepared, memory, inputs);
    running r = {.run = {.program = program,
                         .memory = memory,
                         .pool = pool,
                         .kernels = settings->kernels,
                         .graph = graph},
                 .prepared = prepared,
                 .settings = settings,
                 .space = space,
                 .timed = we_profile_is_on(settings->profile)};
    for (size_t c = 0; c < program->command_count && !prepared->offload; c++)
        WE_TRY(run_command(&r, c, err));
    if (prepared->offload)
        WE_TRY(run_offloaded(&r, err));
    for (size_t i = 0; i < graph->output_count; i++) {
        size_t size = we_block_nbytes(outputs[i]);
        if (!prepared->direct[i] && size)
            memcpy(we_block_view(outputs[i]).data, memory[prepared->outputs[i]], size);
    }
    return WE_OK;
}
