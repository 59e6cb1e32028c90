#include "backend/opencl/play.h"

#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"

enum {
    APART = 256, /* bytes between starts of tensors */
};

struct we_opencl_score {
    we_opencl_device *device;
    const we_program *program;
    we_tape tape;
    we_spot *spots;       /* per tensor */
    size_t *first_launch; /* per command, and one more */
    void *constants;
    int64_t work_bytes;
};

struct we_opencl_space {
    const we_opencl_score *score;
    void *queue, *work;
    int64_t check[WE_TAPE_CHECK_BYTES / sizeof(int64_t)]; /* as read back */
    bool begun; /* the check is cleared, and something may have been noted */
};

static int64_t aligned(int64_t bytes) {
    return (bytes + APART - 1) / APART * APART;
}

/* ---- Recording ---- */

static int64_t bytes_of(const we_tensor *tensor) {
    return tensor->count * (int64_t)we_dtype_size(tensor->dtype);
}

/* Flags the roots that some command reads or writes; what an iteration makes for itself has a planned place.
 */
static void find_used(const we_program *program, bool *used) {
    int64_t offset;
    for (size_t c = 0; c < program->command_count; c++) {
        const we_command *command = &program->commands[c];
        for (size_t i = 0; i < we_command_reads(command); i++)
            used[we_program_root(program, we_command_read(command, i), &offset)] = true;
        for (size_t i = 0; i < we_command_writes(command); i++)
            used[we_program_root(program, we_command_write(command, i), &offset)] = true;
    }
}

/* Every tensor that is neither constant nor a loop's view, nor left over from what became part of others. */
static void place_tensors(we_opencl_score *s, const bool *used, we_opencl_planned planned, const void *plan,
                          int64_t arena_bytes) {
    const we_program *program = s->program;
    int64_t offset;
    s->work_bytes = aligned(WE_TAPE_CHECK_BYTES) + aligned(arena_bytes);
    for (int32_t t = 0; t < (int32_t)program->tensor_count; t++) {
        const we_tensor *tensor = &program->tensors[t];
        if (tensor->alias_of >= 0 || tensor->kind == WE_TENSOR_CONST || tensor->kind == WE_TENSOR_VIEW)
            continue;
        int64_t at = planned(plan, t);
        if (at < 0 && !used[t])
            continue;
        s->spots[t] = (we_spot){WE_SPACE_WORK, at < 0 ? s->work_bytes : at + aligned(WE_TAPE_CHECK_BYTES)};
        if (at < 0)
            s->work_bytes += aligned(bytes_of(tensor));
    }
    for (int32_t t = 0; t < (int32_t)program->tensor_count; t++) {
        int32_t root = we_program_root(program, t, &offset);
        if (root == t || s->spots[root].space == WE_SPACE_NONE)
            continue;
        s->spots[t] = s->spots[root];
        s->spots[t].at += offset * (int64_t)we_dtype_size(program->tensors[t].dtype);
    }
}

static we_status record(we_opencl_score *s, const we_opencl_manner *manner, we_program *program,
                        const bool *here, we_error *err) {
    we_recorder r = {.device = s->device,
                     .parameters = manner->parameters,
                     .program = program,
                     .tape = &s->tape,
                     .spots = s->spots,
                     .tune_until_s = manner->tune_until_s,
                     .narrow = manner->narrow,
                     .scratch_at = s->work_bytes,
                     .err = err};
    for (size_t c = 0; c < program->command_count; c++) {
        s->first_launch[c] = s->tape.launch_count;
        r.command = (int32_t)c;
        if (here[c])
            we_opencl_record(&r, &program->commands[c]);
    }
    s->first_launch[program->command_count] = s->tape.launch_count;
    s->work_bytes += aligned(s->tape.scratch_bytes);
    return r.status;
}

static we_status new_buffer(we_opencl_device *d, uint64_t flags, int64_t bytes, void **out, we_error *err) {
    int32_t code = 0;
    if ((uint64_t)bytes > d->most_bytes)
        return we_error_set(
            err, WE_OUT_OF_MEMORY,
            "%.90s: a buffer of %lld bytes is wanted and the device allows %llu: use backend 'cpu', or "
            "smaller inputs",
            d->name, (long long)bytes, (unsigned long long)d->most_bytes);
    *out = d->cl->CreateBuffer(d->context, flags, (size_t)(bytes ? bytes : APART), NULL, &code);
    return *out ? WE_OK : we_opencl_failed(err, d, "CreateBuffer", code);
}

static we_status new_queue(we_opencl_device *d, void **out, we_error *err) {
    int32_t code = 0;
    *out = d->cl->CreateCommandQueue(d->context, d->id, 0, &code);
    return *out ? WE_OK : we_opencl_failed(err, d, "CreateCommandQueue", code);
}

/* float32 as 16 bits each, on the device when this returns. */
static we_status upload_narrow(const we_opencl_score *s, void *queue, const we_tape_upload *u,
                               we_error *err) {
    size_t count = u->size / sizeof(float);
    const float *from = u->bytes;
    uint16_t *halves = we_memory_new_dirty(count * sizeof *halves);
    if (!halves)
        return we_error_no_memory(err);
    for (size_t i = 0; i < count; i++)
        halves[i] = u->form == WE_F16 ? we_f32_to_f16(from[i]) : we_f32_to_bf16(from[i]);
    int32_t code = s->device->cl->EnqueueWriteBuffer(queue, s->constants, 1, (size_t)u->at,
                                                     count * sizeof *halves, halves, 0, NULL, NULL);
    we_memory_free(halves);
    return code == 0 ? WE_OK : we_opencl_failed(err, s->device, "EnqueueWriteBuffer", code);
}

static we_status upload(const we_opencl_score *s, void *queue, const we_tape_upload *u, we_error *err) {
    if (u->size == 0)
        return WE_OK;
    if (we_dtype_size(u->form) == 2)
        return upload_narrow(s, queue, u, err);
    int32_t code = s->device->cl->EnqueueWriteBuffer(queue, s->constants, 0, (size_t)u->at, u->size, u->bytes,
                                                     0, NULL, NULL);
    return code == 0 ? WE_OK : we_opencl_failed(err, s->device, "EnqueueWriteBuffer", code);
}

static we_status upload_constants(we_opencl_score *s, we_error *err) {
    void *queue;
    we_opencl_device *d = s->device;
    WE_TRY(new_buffer(d, WE_CL_MEM_READ_ONLY, s->tape.constant_bytes, &s->constants, err));
    WE_TRY(new_queue(d, &queue, err));
    we_status status = WE_OK;
    for (size_t i = 0; i < s->tape.upload_count && status == WE_OK; i++)
        status = upload(s, queue, &s->tape.uploads[i], err);
    int32_t code = d->cl->Finish(queue);
    d->cl->ReleaseCommandQueue(queue);
    return status != WE_OK || code == 0 ? status : we_opencl_failed(err, d, "Finish", code);
}

we_status we_opencl_score_new(we_opencl_device *device, const we_opencl_manner *manner, we_program *program,
                              const bool *here, we_opencl_planned planned, const void *plan,
                              int64_t arena_bytes, we_opencl_score **out, we_error *err) {
    we_opencl_score *s = we_memory_new(sizeof *s);
    *out = NULL;
    if (!s)
        return we_error_no_memory(err);
    s->device = device;
    s->program = program;
    s->spots = we_memory_new(program->tensor_count * sizeof *s->spots);
    s->first_launch = we_memory_new((program->command_count + 1) * sizeof *s->first_launch);
    bool *used = we_memory_new(program->tensor_count * sizeof *used);
    we_status status = s->spots && s->first_launch && used ? WE_OK : we_error_no_memory(err);
    if (status == WE_OK) {
        find_used(program, used);
        place_tensors(s, used, planned, plan, arena_bytes);
        status = record(s, manner, program, here, err);
    }
    we_memory_free(used);
    if (status == WE_OK)
        status = upload_constants(s, err);
    if (status != WE_OK) {
        we_opencl_score_free(s);
        return status;
    }
    *out = s;
    return WE_OK;
}

void we_opencl_score_free(we_opencl_score *s) {
    if (!s)
        return;
    if (s->constants)
        s->device->cl->ReleaseMemObject(s->constants);
    we_tape_free(&s->tape);
    we_memory_free(s->spots);
    we_memory_free(s->first_launch);
    we_memory_free(s);
}

int64_t we_opencl_score_bytes(const we_opencl_score *s) {
    return s->work_bytes;
}

int64_t we_opencl_score_constant_bytes(const we_opencl_score *s) {
    return s->tape.constant_bytes;
}

/* ---- Memory of a run ---- */

we_status we_opencl_space_new(const we_opencl_score *score, we_opencl_space **out, we_error *err) {
    we_opencl_space *space = we_memory_new(sizeof *space);
    *out = NULL;
    if (!space)
        return we_error_no_memory(err);
    space->score = score;
    we_status status = new_queue(score->device, &space->queue, err);
    if (status == WE_OK)
        status = new_buffer(score->device, WE_CL_MEM_READ_WRITE, score->work_bytes, &space->work, err);
    if (status != WE_OK) {
        we_opencl_space_free(space);
        return status;
    }
    *out = space;
    return WE_OK;
}

void we_opencl_space_free(we_opencl_space *space) {
    if (!space)
        return;
    const we_cl *cl = space->score->device->cl;
    if (space->queue) {
        cl->Finish(space->queue);
        cl->ReleaseCommandQueue(space->queue);
    }
    if (space->work)
        cl->ReleaseMemObject(space->work);
    we_memory_free(space);
}

/* ---- Playing ---- */

we_status we_opencl_upload(we_opencl_space *space, int32_t root, const void *from, we_error *err) {
    const we_opencl_score *s = space->score;
    size_t bytes = (size_t)bytes_of(&s->program->tensors[root]);
    int32_t code =
        bytes ? s->device->cl->EnqueueWriteBuffer(space->queue, space->work, 0, (size_t)s->spots[root].at,
                                                  bytes, from, 0, NULL, NULL)
              : 0;
    return code == 0 ? WE_OK : we_opencl_failed(err, s->device, "EnqueueWriteBuffer", code);
}

we_status we_opencl_download(we_opencl_space *space, int32_t root, void *to, we_error *err) {
    const we_opencl_score *s = space->score;
    size_t bytes = (size_t)bytes_of(&s->program->tensors[root]);
    int32_t code = bytes
                       ? s->device->cl->EnqueueReadBuffer(space->queue, space->work, 0,
                                                          (size_t)s->spots[root].at, bytes, to, 0, NULL, NULL)
                       : 0;
    return code == 0 ? WE_OK : we_opencl_failed(err, s->device, "EnqueueReadBuffer", code);
}

int32_t we_opencl_launch(const we_opencl_device *device, const we_tape *tape, const we_tape_launch *l,
                         void *queue, void *work, void *constants) {
    const we_cl *cl = device->cl;
    int32_t code = 0;
    for (uint32_t i = 0; i < l->count && code == 0; i++) {
        const we_tape_argument *a = &tape->arguments[l->first + i];
        void *const *buffer = a->space == WE_SPACE_WORK ? &work : &constants;
        code = a->space == WE_SPACE_NONE
                   ? cl->SetKernelArg(l->kernel->kernel, i, a->size, tape->values + a->at)
                   : cl->SetKernelArg(l->kernel->kernel, i, sizeof *buffer, buffer);
    }
    return code ? code
                : cl->EnqueueNDRangeKernel(queue, l->kernel->kernel, l->dims, NULL, l->global, l->local, 0,
                                           NULL, NULL);
}

/* Nothing is wrong so far. */
static we_status clear_check(we_opencl_space *space, we_error *err) {
    const we_opencl_score *s = space->score;
    static const int64_t ZEROS[WE_TAPE_CHECK_BYTES / sizeof(int64_t)];
    if (space->begun || !s->tape.checks)
        return WE_OK;
    space->begun = true;
    int32_t code = s->device->cl->EnqueueWriteBuffer(space->queue, space->work, 0, 0, sizeof ZEROS, ZEROS, 0,
                                                     NULL, NULL);
    return code == 0 ? WE_OK : we_opencl_failed(err, s->device, "EnqueueWriteBuffer", code);
}

we_status we_opencl_play(we_opencl_space *space, int32_t command, we_error *err) {
    const we_opencl_score *s = space->score;
    WE_TRY(clear_check(space, err));
    int32_t code = 0;
    pthread_mutex_lock(&s->device->lock);
    for (size_t l = s->first_launch[command]; l < s->first_launch[command + 1] && code == 0; l++)
        code = we_opencl_launch(s->device, &s->tape, &s->tape.launches[l], space->queue, space->work,
                                s->constants);
    pthread_mutex_unlock(&s->device->lock);
    return code == 0 ? WE_OK : we_opencl_failed(err, s->device, "EnqueueNDRangeKernel", code);
}

static we_status found_wrong(const we_opencl_space *space, const we_graph *graph, we_error *err) {
    int32_t command = (int32_t)space->check[0] - 1;
    if (command < 0)
        return WE_OK;
    const we_node *node = &graph->nodes[space->score->program->commands[command].node];
    return we_error_set_at(err, WE_INVALID_ARGUMENT, we_op_name(node->op), node->name,
                           "index %lld is outside an axis of %lld", (long long)space->check[1],
                           (long long)space->check[2]);
}

we_status we_opencl_finish(we_opencl_space *space, const we_graph *graph, we_error *err) {
    const we_opencl_score *s = space->score;
    const we_cl *cl = s->device->cl;
    int32_t code = 0;
    if (space->begun)
        code = cl->EnqueueReadBuffer(space->queue, space->work, 0, 0, sizeof space->check, space->check, 0,
                                     NULL, NULL);
    int32_t finished = cl->Finish(space->queue);
    code = code ? code : finished;
    if (code != 0)
        return we_opencl_failed(err, s->device, "Finish", code);
    bool noted = space->begun;
    space->begun = false;
    return noted ? found_wrong(space, graph, err) : WE_OK;
}
