/* Indices of the largest or smallest elements along an axis, in order. Every element becomes a whole number,
 * its key, that is the larger the sooner the element comes; of equal keys the first comes first. */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

enum {
    BLOCK = 64,       /* keys made at a time */
    FEW = 4096,       /* entries whose heap stays in a near cache */
    GRAIN = 16 << 10, /* elements worth handing to a thread */
};

typedef struct entry {
    uint64_t key;
    int64_t index;
} entry;

/* ---- Keys ---- */

/* NaN is the largest, whatever its bits; zeros are equal. Negative numbers turn round, and lie below the
 * others. */
static uint32_t key_of_float(float value) {
    uint32_t bits;
    value += 0.0f;
    memcpy(&bits, &value, sizeof bits);
    bits ^= (uint32_t)((int32_t)bits >> 31) | 1u << 31;
    return value != value ? UINT32_MAX : bits;
}

static uint64_t key_of_double(double value) {
    uint64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    bits ^= (uint64_t)((int64_t)bits >> 63) | 1ull << 63;
    return value != value ? UINT64_MAX : bits;
}

/* A line of elements `step` apart, whose tensor is `x`. */
typedef struct line {
    const we_tensor *x;
    int64_t at, step;
    bool largest, real;
} line;

static void keys_of_floats(const float *x, int64_t step, uint64_t turn, int64_t count, uint64_t *keys) {
    for (int64_t i = 0; i < count; i++)
        keys[i] = key_of_float(x[i * step]) ^ turn;
}

/* Keys of elements [begin, begin + count). */
static void make_keys(const line *l, int64_t begin, int64_t count, uint64_t *keys) {
    int64_t at = l->at + begin * l->step;
    uint64_t turn = l->largest ? 0 : UINT64_MAX;
    if (l->x->dtype == WE_F32) {
        keys_of_floats((const float *)l->x->data + at, l->step, turn, count, keys);
        return;
    }
    for (int64_t i = 0; i < count; i++, at += l->step)
        keys[i] = turn ^ (l->real ? key_of_double(we_tensor_number(l->x, at))
                                  : (uint64_t)we_tensor_ordered(l->x, at) ^ 1ull << 63);
}

/* ---- Order ---- */

static bool comes_before(const entry *a, const entry *b) {
    return a->key != b->key ? a->key > b->key : a->index < b->index;
}

static int order(const void *left, const void *right) {
    return comes_before(left, right) ? -1 : 1;
}

/* Restore the heap below `at`: no entry comes before its children; the root is the last of all. */
static void sink(entry *heap, int64_t count, int64_t at) {
    entry moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && comes_before(&heap[child], &heap[child + 1]))
            child++;
        if (!comes_before(&moved, &heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* A heap into the order. */
static void sort(entry *heap, int64_t count) {
    if (count > FEW) {
        qsort(heap, (size_t)count, sizeof *heap, order);
        return;
    }
    for (int64_t left = count; left-- > 1;) {
        entry last = heap[0];
        heap[0] = heap[left];
        heap[left] = last;
        sink(heap, left, 0);
    }
}

/* ---- Lines ---- */

/* Can none of a block of floats that lie together displace the last of the best? The kernel's extreme is NaN
 * where one is, and then the block is looked at. */
static bool has_none(const we_kernels *kernels, const line *l, int64_t begin, int64_t count, int64_t last) {
    const float *x = (const float *)l->x->data + l->at;
    float extreme;
    if (l->x->dtype != WE_F32 || l->step != 1)
        return false;
    kernels->reduce[l->largest ? WE_REDUCE_Max : WE_REDUCE_Min][WE_F32](count, 1, x + begin, &extreme);
    return l->largest ? extreme <= x[last] : extreme >= x[last];
}

/* The first k of a line of n: a heap of the best so far, its root the first to go. */
static void top_of_line(const we_kernels *kernels, const line *l, int64_t n, int64_t k, entry *best) {
    uint64_t keys[BLOCK];
    int64_t filled = 0;
    for (int64_t begin = 0, count; begin < n; begin += count) {
        count = n - begin < BLOCK ? n - begin : BLOCK;
        if (filled == k && has_none(kernels, l, begin, count, best[0].index))
            continue;
        make_keys(l, begin, count, keys);
        int64_t i = 0;
        for (; i < count && filled < k; i++) {
            best[filled++] = (entry){keys[i], begin + i};
            for (int64_t at = k / 2; filled == k && at-- > 0;)
                sink(best, k, at);
        }
        for (; i < count; i++) {
            if (keys[i] <= best[0].key)
                continue;
            best[0] = (entry){keys[i], begin + i};
            sink(best, k, 0);
        }
    }
    sort(best, k);
}

typedef struct job {
    const we_run *run;
    const we_command *command;
    entry *best; /* [threads][k] */
} job;

static void top_of_lines(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_command *c = j->command;
    int64_t n = c->u.top.n, k = c->u.top.k, inner = c->u.top.inner;
    we_tensor x = j->run->program->tensors[c->in[0]];
    entry *best = j->best + we_run_worker(j->run) * k;
    x.data = we_run_in(j->run, c, 0);
    line l = {.x = &x, .step = inner, .largest = c->u.top.largest, .real = we_dtype_kind(x.dtype) == 'f'};
    for (int64_t i = begin; i < end; i++) {
        l.at = i / inner * n * inner + i % inner;
        top_of_line(j->run->kernels, &l, n, k, best);
        int64_t *out = (int64_t *)we_run_out(j->run, c) + i / inner * k * inner + i % inner;
        for (int64_t place = 0; place < k; place++)
            out[place * inner] = best[place].index;
    }
}

we_status we_cpu_top(const we_run *run, const we_command *c, we_error *err) {
    size_t threads = (size_t)we_pool_threads(run->pool);
    job j = {run, c, we_memory_new_dirty(threads * (size_t)c->u.top.k * sizeof *j.best)};
    if (!j.best)
        return we_error_no_memory(err);
    we_parallel_for(run->pool, c->u.top.outer * c->u.top.inner, 1 + GRAIN / c->u.top.n, top_of_lines, &j);
    we_memory_free(j.best);
    return WE_OK;
}
