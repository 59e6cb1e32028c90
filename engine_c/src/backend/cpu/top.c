/* Indices of the largest or smallest elements along an axis, in order. */
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

typedef struct entry {
    double real;   /* floats */
    int64_t whole; /* integers, made to compare as signed */
    int64_t index;
} entry;

/* Smallest first; NaN counts as the largest; of equals the one that comes first. */
static int ascending(const void *left, const void *right) {
    const entry *a = left, *b = right;
    bool a_nan = a->real != a->real, b_nan = b->real != b->real;
    if (a_nan != b_nan)
        return a_nan ? 1 : -1;
    if (a->real != b->real && !a_nan)
        return a->real < b->real ? -1 : 1;
    if (a->whole != b->whole)
        return a->whole < b->whole ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static int descending(const void *left, const void *right) {
    const entry *a = left, *b = right;
    bool equal = (a->real == b->real || (a->real != a->real && b->real != b->real)) && a->whole == b->whole;
    return equal ? (a->index < b->index ? -1 : 1) : -ascending(left, right);
}

we_status we_cpu_top(const we_run *run, const we_command *c, we_error *err) {
    we_tensor x = run->program->tensors[c->in[0]];
    int64_t n = c->u.top.n, inner = c->u.top.inner, k = c->u.top.k;
    int64_t *out = we_run_out(run, c);
    bool real = we_dtype_kind(x.dtype) == 'f';
    entry *entries = we_memory_new((size_t)n * sizeof *entries);
    if (!entries)
        return we_error_no_memory(err);
    x.data = we_run_in(run, c, 0);
    for (int64_t line = 0; line < c->u.top.outer * inner; line++) {
        int64_t at = line / inner * n * inner + line % inner, to = line / inner * k * inner + line % inner;
        for (int64_t i = 0; i < n; i++) {
            entries[i] = (entry){.index = i};
            if (real)
                entries[i].real = we_tensor_number(&x, at + i * inner);
            else
                entries[i].whole = we_tensor_ordered(&x, at + i * inner);
        }
        qsort(entries, (size_t)n, sizeof *entries, c->u.top.largest ? descending : ascending);
        for (int64_t i = 0; i < k; i++)
            out[to + i * inner] = entries[i].index;
    }
    we_memory_free(entries);
    return WE_OK;
}
