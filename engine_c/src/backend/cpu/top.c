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

static int (*order_of(const we_command *c))(const void *, const void *) {
    return c->u.top.largest ? descending : ascending;
}

/* Restore the heap below `at`: no entry comes later in the order than its parent. */
static void sink(entry *heap, int64_t count, int64_t at, int (*order)(const void *, const void *)) {
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && order(&heap[child], &heap[child + 1]) < 0)
            child++;
        if (order(&heap[at], &heap[child]) >= 0)
            return;
        entry moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

static entry entry_at(const we_tensor *x, bool real, int64_t at, int64_t index) {
    entry e = {.index = index};
    if (real)
        e.real = we_tensor_number(x, at);
    else
        e.whole = we_tensor_ordered(x, at);
    return e;
}

/* The first k of a line in order: a heap of the best so far, its root the first to go. */
static void top_of_line(const we_command *c, const we_tensor *x, int64_t at, entry *best) {
    int (*order)(const void *, const void *) = order_of(c);
    int64_t n = c->u.top.n, k = c->u.top.k, inner = c->u.top.inner;
    bool real = we_dtype_kind(x->dtype) == 'f';
    for (int64_t i = 0; i < k; i++)
        best[i] = entry_at(x, real, at + i * inner, i);
    for (int64_t i = k / 2; i-- > 0 && k < n;)
        sink(best, k, i, order);
    for (int64_t i = k; i < n; i++) {
        entry next = entry_at(x, real, at + i * inner, i);
        if (order(&next, best) < 0) {
            best[0] = next;
            sink(best, k, 0, order);
        }
    }
    qsort(best, (size_t)k, sizeof *best, order);
}

we_status we_cpu_top(const we_run *run, const we_command *c, we_error *err) {
    we_tensor x = run->program->tensors[c->in[0]];
    int64_t inner = c->u.top.inner, k = c->u.top.k;
    int64_t *out = we_run_out(run, c);
    entry *best = we_memory_new((size_t)k * sizeof *best);
    if (!best)
        return we_error_no_memory(err);
    x.data = we_run_in(run, c, 0);
    for (int64_t line = 0; line < c->u.top.outer * inner; line++) {
        top_of_line(c, &x, line / inner * c->u.top.n * inner + line % inner, best);
        for (int64_t i = 0; i < k; i++)
            out[line / inner * k * inner + line % inner + i * inner] = best[i].index;
    }
    we_memory_free(best);
    return WE_OK;
}
