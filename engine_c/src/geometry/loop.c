/* Building loop commands, and the rules that are one. */
#include <string.h>

#include "base/error.h"
#include "geometry/lower.h"

void we_loop_begin(we_lower *l, we_loop_builder *b, int32_t rank, const int64_t *sizes) {
    memset(b, 0, sizeof *b);
    b->loop.rank = rank;
    if (rank)
        memcpy(b->loop.size, sizes, (size_t)rank * sizeof *sizes);
    b->command_mark = l->program->command_count;
    b->tensor_mark = l->program->tensor_count;
}

int32_t we_loop_view_of(we_lower *l, we_loop_builder *b, int32_t base, int32_t rank, const int64_t *dims,
                        const we_address *at) {
    int32_t view = we_lower_temp(l, we_lower_tensor(l, base).dtype, rank, dims);
    if (l->status == WE_OK && b->loop.view_count == WE_LOOP_VIEWS)
        we_lower_fail(l, WE_INTERNAL, "a loop with too many views");
    if (l->status != WE_OK)
        return 0;
    l->program->tensors[view].kind = WE_TENSOR_VIEW;
    b->views[b->loop.view_count++] =
        (we_loop_view){.view = view, .base = base, .first = -1, .at = *at, .index.tensor = -1};
    return view;
}

void we_loop_start_from(we_lower *l, we_loop_builder *b, int32_t first) {
    if (l->status == WE_OK)
        b->views[b->loop.view_count - 1].first = first;
}

void we_loop_move_by(we_lower *l, we_loop_builder *b, const we_loop_index *index) {
    if (l->status == WE_OK)
        b->views[b->loop.view_count - 1].index = *index;
}

void we_loop_seed(we_lower *l, we_loop_builder *b, int32_t result, int32_t seed) {
    if (l->status == WE_OK && b->seed_count == WE_LOOP_VIEWS)
        we_lower_fail(l, WE_INTERNAL, "a loop with too many seeds");
    if (l->status != WE_OK)
        return;
    b->seeded[b->seed_count] = result;
    b->seeds[b->seed_count++] = seed;
}

/* ---- Ending a loop: what varies stays inside, what comes from outside is read, what views write is a result
 * ---- */

typedef struct loop_ends {
    int32_t *reads, *writes, *seeds;
    bool *varies; /* per tensor */
} loop_ends;

static bool varying(const we_command *command, const bool *varies) {
    for (size_t i = 0; i < we_command_writes(command); i++) {
        if (varies[we_command_write(command, i)])
            return true; /* it writes a view */
    }
    for (size_t i = 0; i < we_command_reads(command); i++) {
        if (varies[we_command_read(command, i)])
            return true;
    }
    return false;
}

/* Move the varying commands to the loop's body; the others stay before the loop. */
static void split_body(we_lower *l, we_loop_builder *b, bool *varies) {
    we_program *program = l->program;
    size_t kept = b->command_mark;
    for (size_t v = 0; v < b->loop.view_count; v++)
        varies[b->views[v].view] = true;
    for (size_t c = b->command_mark; c < program->command_count; c++) {
        we_command command = program->commands[c];
        if (!varying(&command, varies)) {
            program->commands[kept++] = command;
            continue;
        }
        for (size_t i = 0; i < we_command_writes(&command); i++)
            varies[we_command_write(&command, i)] = true;
        b->loop.body[b->loop.body_count++] = command;
    }
    program->command_count = kept;
}

static void add_once(int32_t *list, size_t *count, int32_t tensor) {
    for (size_t i = 0; i < *count; i++) {
        if (list[i] == tensor)
            return;
    }
    list[(*count)++] = tensor;
}

static bool body_writes(const we_loop *loop, int32_t tensor) {
    for (size_t c = 0; c < loop->body_count; c++) {
        if (loop->body[c].out == tensor)
            return true;
    }
    return false;
}

static void find_ends(const we_loop_builder *b, we_loop *loop, const loop_ends *ends) {
    for (size_t v = 0; v < loop->view_count; v++) {
        if (body_writes(loop, b->views[v].view))
            add_once(ends->writes, &loop->write_count, b->views[v].base);
    }
    for (size_t v = 0; v < loop->view_count; v++) {
        bool own = false; /* a result that the loop itself reads back */
        for (size_t i = 0; i < loop->write_count; i++)
            own = own || ends->writes[i] == b->views[v].base;
        if (!own)
            add_once(ends->reads, &loop->read_count, b->views[v].base);
        if (b->views[v].first >= 0)
            add_once(ends->reads, &loop->read_count, b->views[v].first);
        if (b->views[v].index.tensor >= 0)
            add_once(ends->reads, &loop->read_count, b->views[v].index.tensor);
    }
    for (size_t c = 0; c < loop->body_count; c++) {
        for (size_t i = 0; i < we_command_reads(&loop->body[c]); i++) {
            int32_t tensor = we_command_read(&loop->body[c], i);
            if (!ends->varies[tensor])
                add_once(ends->reads, &loop->read_count, tensor);
        }
    }
    for (size_t i = 0; i < loop->write_count; i++) {
        ends->seeds[i] = -1;
        for (size_t s = 0; s < b->seed_count; s++)
            ends->seeds[i] = ends->writes[i] == b->seeded[s] ? b->seeds[s] : ends->seeds[i];
    }
    for (size_t s = 0; s < b->seed_count; s++)
        add_once(ends->reads, &loop->read_count, b->seeds[s]);
}

void we_loop_end(we_lower *l, we_loop_builder *b) {
    if (l->status != WE_OK)
        return;
    we_program *program = l->program;
    we_loop *loop = &b->loop;
    size_t commands = program->command_count - b->command_mark;
    we_arena *arena = &program->arena;
    loop_ends ends = {
        .reads = we_arena_new(arena, (4 * loop->view_count + 3 * commands + 1) * sizeof *ends.reads),
        .writes = we_arena_new(arena, loop->view_count * sizeof *ends.writes),
        .seeds = we_arena_new(arena, loop->view_count * sizeof *ends.seeds),
        .varies = we_memory_new(program->tensor_count * sizeof *ends.varies),
    };
    loop->body = we_arena_new(arena, commands * sizeof *loop->body);
    loop->views = we_arena_copy(arena, b->views, loop->view_count * sizeof *loop->views);
    if (!ends.reads || !ends.writes || !ends.seeds || !ends.varies || !loop->body || !loop->views) {
        l->status = we_error_no_memory(l->call.err);
    } else {
        split_body(l, b, ends.varies);
        find_ends(b, loop, &ends);
        loop->reads = ends.reads;
        loop->writes = ends.writes;
        loop->seeds = ends.seeds;
        we_command command = {.kind = WE_COMMAND_LOOP, .node = l->node, .in = {-1, -1, -1}};
        command.out = ends.writes[0];
        command.u.loop = *loop;
        l->status = loop->write_count ? we_program_command(program, &command, l->call.err)
                                      : we_error_set(l->call.err, WE_INTERNAL, "a loop without a result");
    }
    we_memory_free(ends.varies);
}

/* ---- Gathering ---- */

void we_emit_gather(we_lower *l, int32_t from, int32_t indices, const we_gathering *g, int32_t into) {
    we_loop_builder loop;
    we_loop_begin(l, &loop, 2, (int64_t[]){g->outer, g->count});
    loop.loop.independent = true;
    int32_t row =
        we_loop_view_of(l, &loop, from, 1, &g->inner, &(we_address){.stride = {g->extent * g->inner, 0}});
    we_loop_move_by(l, &loop,
                    &(we_loop_index){.tensor = indices,
                                     .components = 1,
                                     .at.stride = {0, 1},
                                     .step = {g->inner},
                                     .extent = {g->extent}});
    int32_t place = we_loop_view_of(l, &loop, into, 1, &g->inner,
                                    &(we_address){.stride = {g->count * g->inner, g->inner}});
    we_emit_reshape(l, row, 1, &g->inner, place);
    we_loop_end(l, &loop);
}

void we_rule_gather(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", 0), x->rank, &axis);
    if (l->status != WE_OK)
        return;
    we_gathering g = {.outer = 1, .extent = x->dims[axis], .count = l->call.in[1]->count, .inner = 1};
    for (int32_t i = 0; i < x->rank; i++) {
        g.outer *= i < axis ? x->dims[i] : 1;
        g.inner *= i > axis ? x->dims[i] : 1;
    }
    we_emit_gather(l, l->in[0], l->in[1], &g, l->out[0]);
}
