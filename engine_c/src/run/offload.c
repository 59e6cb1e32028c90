#include "run/offload.h"

#include "base/error.h"

enum {
    HOST,
    DEVICE,
    PLACES,
};

/* Where what a root tensor holds is whole. */
typedef struct state {
    bool valid[PLACES];
    bool written; /* by a command: there is something to lose */
} state;

typedef struct scheduler {
    const we_program *program;
    we_offload *out;
    state *states; /* per root */
} scheduler;

static we_status add(scheduler *s, we_step_kind kind, int32_t index, we_error *err) {
    we_offload *o = s->out;
    if (!we_memory_grow((void **)&o->steps, &o->room, o->step_count, sizeof *o->steps))
        return we_error_no_memory(err);
    o->steps[o->step_count++] = (we_offload_step){kind, index};
    return WE_OK;
}

/* Bring the root there if it is not. */
static we_status bring(scheduler *s, int32_t tensor, int32_t to, we_error *err) {
    int64_t offset;
    int32_t root = we_program_root(s->program, tensor, &offset);
    state *at = &s->states[root];
    if (s->program->tensors[root].kind == WE_TENSOR_CONST ||
        s->program->tensors[root].kind == WE_TENSOR_VIEW || at->valid[to] || !at->valid[PLACES - 1 - to])
        return WE_OK;
    at->valid[to] = true;
    return add(s, to == DEVICE ? WE_STEP_TO_DEVICE : WE_STEP_TO_HOST, root, err);
}

/* Does writing the tensor leave something of its root as it was? */
static bool writes_part(const we_program *program, const we_command *c, int32_t tensor) {
    int64_t offset;
    int32_t root = we_program_root(program, tensor, &offset);
    return program->tensors[tensor].count != program->tensors[root].count ||
           (c->kind == WE_COMMAND_RASTER && c->u.raster.partial) ||
           (c->kind == WE_COMMAND_CLAIM && c->u.claim.pitch);
}

static we_status write(scheduler *s, const we_command *c, int32_t tensor, int32_t place, we_error *err) {
    int64_t offset;
    int32_t root = we_program_root(s->program, tensor, &offset);
    state *at = &s->states[root];
    if (at->written && writes_part(s->program, c, tensor))
        WE_TRY(bring(s, tensor, place, err));
    at->written = true;
    at->valid[place] = true;
    at->valid[PLACES - 1 - place] = false;
    return WE_OK;
}

static we_status schedule_command(scheduler *s, size_t index, we_error *err) {
    const we_command *c = &s->program->commands[index];
    int32_t place = c->away ? DEVICE : HOST;
    for (size_t i = 0; i < we_command_reads(c); i++)
        WE_TRY(bring(s, we_command_read(c, i), place, err));
    for (size_t i = 0; i < we_command_writes(c); i++)
        WE_TRY(write(s, c, we_command_write(c, i), place, err));
    return add(s, WE_STEP_RUN, (int32_t)index, err);
}

static we_status schedule(scheduler *s, const int32_t *outputs, size_t output_count, we_error *err) {
    for (size_t t = 0; t < s->program->tensor_count; t++)
        s->states[t].valid[HOST] = s->states[t].written = s->program->tensors[t].kind == WE_TENSOR_INPUT;
    for (size_t c = 0; c < s->program->command_count; c++)
        WE_TRY(schedule_command(s, c, err));
    for (size_t i = 0; i < output_count; i++)
        WE_TRY(bring(s, outputs[i], HOST, err));
    return WE_OK;
}

static int64_t planned(const void *plan, int32_t root) {
    return ((const we_plan *)plan)->spans[root].offset;
}

static we_status fill(we_offload *offload, we_opencl_device *device, const we_opencl_manner *manner,
                      we_program *program, const we_plan *plan, const int32_t *outputs, size_t output_count,
                      state *states, bool *here, we_error *err) {
    scheduler s = {program, offload, states};
    for (size_t c = 0; c < program->command_count; c++)
        here[c] = program->commands[c].away;
    WE_TRY(schedule(&s, outputs, output_count, err));
    return we_opencl_score_new(device, manner, program, here, planned, plan, plan->arena_bytes,
                               &offload->score, err);
}

we_status we_offload_new(we_opencl_device *device, const we_opencl_manner *manner, we_program *program,
                         const we_plan *plan, const int32_t *outputs, size_t output_count, we_offload **out,
                         we_error *err) {
    we_offload *offload = we_memory_new(sizeof *offload);
    state *states = we_memory_new(program->tensor_count * sizeof *states);
    bool *here = we_memory_new(program->command_count * sizeof *here);
    we_status status = offload && states && here ? fill(offload, device, manner, program, plan, outputs,
                                                        output_count, states, here, err)
                                                 : we_error_no_memory(err);
    we_memory_free(states);
    we_memory_free(here);
    if (status != WE_OK) {
        we_offload_free(offload);
        offload = NULL;
    }
    *out = offload;
    return status;
}

void we_offload_free(we_offload *offload) {
    if (!offload)
        return;
    we_opencl_score_free(offload->score);
    we_memory_free(offload->steps);
    we_memory_free(offload);
}
