#include "run/workspace.h"

#include "base/dtype.h"

void we_workspace_free(we_workspace *w) {
    if (!w)
        return;
    we_opencl_space_free(w->away);
    we_memory_free(w->memory);
    we_memory_free(w->arena);
    we_memory_free(w);
}

/* Where a root lies in every run; NULL where each run has its own place for it. */
static void *place_of(const we_program *program, const we_plan *plan, char *arena, int32_t root) {
    const we_tensor *tensor = &program->tensors[root];
    if (tensor->kind == WE_TENSOR_CONST)
        return (void *)tensor->data; /* commands only read it */
    return plan->spans[root].offset >= 0 ? arena + plan->spans[root].offset : NULL;
}

static void place_tensors(const we_program *program, const we_plan *plan, we_workspace *w) {
    for (size_t t = 0; t < program->tensor_count; t++) {
        int64_t offset;
        char *place = place_of(program, plan, w->arena, we_program_root(program, (int32_t)t, &offset));
        if (place)
            w->memory[t] = place + offset * (int64_t)we_dtype_size(program->tensors[t].dtype);
    }
}

we_workspace *we_workspace_new(const we_program *program, const we_plan *plan) {
    we_workspace *w = we_memory_new(sizeof *w);
    if (!w)
        return NULL;
    w->memory = we_memory_new(program->tensor_count * sizeof *w->memory);
    w->arena = we_memory_new_dirty((size_t)plan->arena_bytes);
    if (!w->memory || !w->arena) {
        we_workspace_free(w);
        return NULL;
    }
    place_tensors(program, plan, w);
    return w;
}
