#include "run/workspace.h"

void we_workspace_free(we_workspace *w) {
    if (!w)
        return;
    we_memory_free(w->memory);
    we_memory_free(w->arena);
    we_memory_free(w->scratch);
    we_memory_free(w);
}

we_workspace *we_workspace_new(const we_prepared *prepared) {
    we_workspace *w = we_memory_new(sizeof *w);
    if (!w)
        return NULL;
    w->memory = we_memory_new(prepared->program.tensor_count * sizeof *w->memory);
    w->arena = we_memory_new_dirty((size_t)prepared->plan.arena_bytes);
    w->scratch = we_memory_new_dirty(prepared->scratch_bytes);
    if (w->memory && w->arena && w->scratch)
        return w;
    we_workspace_free(w);
    return NULL;
}
