#include "array/loops.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"

enum {
    BUFFER = 8192,  /* bytes of each operand in a buffer: four of them twice stay in the first-level cache */
    SHORT_ROW = 64, /* elements: shorter rows go through the buffer several at a time, if not whole */
    GRAIN = 32768,  /* elements of plain arithmetic worth a piece of shared work */
    SHARE_FROM = 1 << 17, /* bytes of the result: below, helpers cost more than they bring */
};

int64_t we_array_count(const we_array *x) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < x->rank; axis++)
        count *= x->dims[axis];
    return count;
}

/* ---- Threads ---- */

static pthread_once_t pool_once = PTHREAD_ONCE_INIT;
static we_pool *pool;

static void make_pool(void) {
    if (we_pool_new(WE_POOL_THREADS, &pool, NULL) != WE_OK)
        pool = NULL; /* then each loop runs in its caller */
}

we_pool *we_array_pool(void) {
    pthread_once(&pool_once, make_pool);
    return pool;
}

/* ---- Shapes ---- */

we_status we_array_broadcast(const we_array *x, const we_array *out, we_array *result, we_error *err) {
    *result = *x;
    result->rank = out->rank;
    memcpy(result->dims, out->dims, sizeof result->dims);
    if (x->rank > out->rank)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "an operand of rank %d does not fit a result of rank %d", (int)x->rank,
                            (int)out->rank);
    int32_t added = out->rank - x->rank;
    for (int32_t axis = 0; axis < out->rank; axis++) {
        int64_t dim = axis < added ? 1 : x->dims[axis - added];
        if (dim != out->dims[axis] && dim != 1)
            return we_error_set(err, WE_INVALID_ARGUMENT, "%lld elements do not fit a dim of %lld",
                                (long long)dim, (long long)out->dims[axis]);
        result->strides[axis] = dim == 1 ? 0 : x->strides[axis - added];
    }
    return WE_OK;
}

/* ---- The plan of a loop: its dims outermost first, as few as can be ---- */

typedef struct plan {
    const we_array_loop *loop;
    int32_t rank, operands;
    int64_t dims[WE_MAX_RANK];
    int64_t strides[WE_ARRAY_OPERANDS][WE_MAX_RANK];
    int64_t size[WE_ARRAY_OPERANDS], computed_size[WE_ARRAY_OPERANDS];
    bool converts[WE_ARRAY_OPERANDS];
    bool direct;   /* every row of every operand lies together and needs no conversion */
    int64_t chunk; /* elements through the buffer at once */
} plan;

static int64_t magnitude(int64_t x) {
    return x < 0 ? -x : x;
}

/* Sort axes by the strides of the result, largest first; then of the first input. */
static bool goes_before(const plan *p, int32_t a, int32_t b) {
    for (int32_t i = p->operands - 1, n = 0; n < p->operands; n++, i = n - 1) {
        int64_t x = magnitude(p->strides[i][a]), y = magnitude(p->strides[i][b]);
        if (x != y && x != 0 && y != 0)
            return x > y;
    }
    return a < b;
}

static void swap_axes(plan *p, int32_t a, int32_t b) {
    int64_t dim = p->dims[a];
    p->dims[a] = p->dims[b];
    p->dims[b] = dim;
    for (int32_t i = 0; i < p->operands; i++) {
        int64_t stride = p->strides[i][a];
        p->strides[i][a] = p->strides[i][b];
        p->strides[i][b] = stride;
    }
}

static bool merges(const plan *p, int32_t outer, int32_t inner) {
    for (int32_t i = 0; i < p->operands; i++) {
        if (p->strides[i][outer] != p->strides[i][inner] * p->dims[inner])
            return false;
    }
    return true;
}

static void collapse(plan *p) {
    int32_t rank = 0;
    for (int32_t axis = 0; axis < p->rank; axis++) { /* insertion sort: ranks are small */
        for (int32_t i = axis; i > 0 && goes_before(p, i, i - 1); i--)
            swap_axes(p, i, i - 1);
    }
    for (int32_t axis = 0; axis < p->rank; axis++) {
        if (rank > 0 && merges(p, rank - 1, axis)) {
            p->dims[rank - 1] *= p->dims[axis];
        } else {
            p->dims[rank] = p->dims[axis];
            rank++;
        }
        for (int32_t i = 0; i < p->operands; i++)
            p->strides[i][rank - 1] = p->strides[i][axis];
    }
    p->rank = rank;
}

static void make_plan(const we_array_loop *loop, plan *p) {
    const we_array *out = &loop->operands[loop->inputs];
    int64_t widest = 1;
    *p = (plan){.loop = loop, .operands = loop->inputs + 1};
    for (int32_t axis = 0; axis < out->rank; axis++) {
        if (out->dims[axis] == 1)
            continue;
        p->dims[p->rank] = out->dims[axis];
        for (int32_t i = 0; i < p->operands; i++)
            p->strides[i][p->rank] = loop->operands[i].strides[axis];
        p->rank++;
    }
    collapse(p);
    if (p->rank == 0) { /* one element */
        p->dims[p->rank++] = 1;
        for (int32_t i = 0; i < p->operands; i++)
            p->strides[i][0] = we_array_dtype_size(loop->operands[i].dtype);
    }
    p->direct = true;
    for (int32_t i = 0; i < p->operands; i++) {
        p->size[i] = we_array_dtype_size(loop->operands[i].dtype);
        p->computed_size[i] = we_array_dtype_size(loop->computed[i]);
        p->converts[i] = loop->operands[i].dtype != loop->computed[i];
        p->direct = p->direct && !p->converts[i] && p->strides[i][p->rank - 1] == p->size[i];
        widest = p->size[i] > widest ? p->size[i] : widest;
        widest = p->computed_size[i] > widest ? p->computed_size[i] : widest;
    }
    p->chunk = BUFFER / widest;
}

/* ---- Moving elements between strided memory and a buffer ---- */

#define MOVE(T)                                                                                              \
    for (int64_t i = 0; i < n; i++)                                                                          \
    memcpy(to + i * to_stride, from + i * from_stride, sizeof(T))

static void move_elements(int64_t n, int64_t size, const char *from, int64_t from_stride, char *to,
                          int64_t to_stride) {
    if (from_stride == size && to_stride == size) {
        memcpy(to, from, (size_t)(n * size));
        return;
    }
    switch (size) {
    case 1:
        MOVE(uint8_t);
        break;
    case 2:
        MOVE(uint16_t);
        break;
    case 4:
        MOVE(uint32_t);
        break;
    case 8:
        MOVE(uint64_t);
        break;
    default:
        MOVE(double _Complex);
    }
}

/* Where a walk is: an index of each dim. */
typedef struct place {
    int64_t index[WE_MAX_RANK];
} place;

static place place_at(const plan *p, int64_t position) {
    place at;
    for (int32_t axis = p->rank - 1; axis >= 0; axis--) {
        at.index[axis] = position % p->dims[axis];
        position /= p->dims[axis];
    }
    return at;
}

static char *address(const plan *p, int32_t operand, const place *at) {
    char *to = p->loop->operands[operand].data;
    for (int32_t axis = 0; axis < p->rank; axis++)
        to += at->index[axis] * p->strides[operand][axis];
    return to;
}

/* Move on by n elements, not past the end of the row unless exactly to it. */
static void advance(const plan *p, place *at, int64_t n) {
    int32_t axis = p->rank - 1;
    at->index[axis] += n;
    for (; axis > 0 && at->index[axis] == p->dims[axis]; axis--) {
        at->index[axis] = 0;
        at->index[axis - 1]++;
    }
}

/* Move n elements of an operand, from `at` on over as many rows as it takes, into a buffer or back. */
static void stage(const plan *p, int32_t operand, place at, int64_t n, char *buffer, bool back) {
    int64_t size = p->size[operand], stride = p->strides[operand][p->rank - 1], row = p->dims[p->rank - 1];
    while (n > 0) {
        int64_t left = row - at.index[p->rank - 1], count = n < left ? n : left;
        char *lies = address(p, operand, &at);
        if (back)
            move_elements(count, size, buffer, size, lies, stride);
        else
            move_elements(count, size, lies, stride, buffer, size);
        buffer += count * size;
        n -= count;
        if (n > 0)
            advance(p, &at, count);
    }
}

/* ---- Running ---- */

typedef struct run {
    const plan *p;
    const we_array_kernels *kernels;
} run;

typedef struct buffers {
    _Alignas(64) char raw[WE_ARRAY_OPERANDS][BUFFER], computed[WE_ARRAY_OPERANDS][BUFFER];
} buffers;

static void run_staged(const run *r, buffers *b, const place *at, int64_t n) {
    const plan *p = r->p;
    const we_array_loop *loop = p->loop;
    int32_t result = loop->inputs, inner = p->rank - 1;
    bool in_row = at->index[inner] + n <= p->dims[inner];
    void *operands[WE_ARRAY_OPERANDS];
    for (int32_t i = 0; i <= result; i++) {
        bool together = in_row && p->strides[i][inner] == p->size[i];
        char *raw = together ? address(p, i, at) : b->raw[i];
        if (i < result && !together)
            stage(p, i, *at, n, raw, false);
        operands[i] = p->converts[i] ? b->computed[i] : raw;
        if (i < result && p->converts[i])
            r->kernels->cast[loop->operands[i].dtype][loop->computed[i]](n, raw, operands[i]);
        if (i < result)
            continue;
        loop->step(loop->kernel, n, operands);
        if (p->converts[i])
            r->kernels->cast[loop->computed[i]][loop->operands[i].dtype](n, operands[i], raw);
        if (!together)
            stage(p, i, *at, n, raw, true);
    }
}

static void run_rows(const run *r, int64_t begin, int64_t end) {
    const plan *p = r->p;
    int64_t row = p->dims[p->rank - 1];
    place at = place_at(p, begin);
    while (begin < end) {
        int64_t left = row - at.index[p->rank - 1], n = end - begin < left ? end - begin : left;
        void *operands[WE_ARRAY_OPERANDS];
        for (int32_t i = 0; i < p->operands; i++)
            operands[i] = address(p, i, &at);
        p->loop->step(p->loop->kernel, n, operands);
        begin += n;
        advance(p, &at, n);
    }
}

static void run_buffered(const run *r, int64_t begin, int64_t end) {
    const plan *p = r->p;
    buffers b;
    int64_t row = p->dims[p->rank - 1];
    place at = place_at(p, begin);
    while (begin < end) {
        int64_t left = row - at.index[p->rank - 1];
        int64_t most = row < SHORT_ROW || left > end - begin ? end - begin : left;
        int64_t n = most < p->chunk ? most : p->chunk;
        run_staged(r, &b, &at, n);
        begin += n;
        if (begin < end)
            at = n <= left ? (advance(p, &at, n), at) : place_at(p, begin);
    }
}

static void run_range(void *context, int64_t begin, int64_t end) {
    const run *r = context;
    const plan *p = r->p;
    if (p->direct && (p->rank == 1 || p->dims[p->rank - 1] >= SHORT_ROW))
        run_rows(r, begin, end);
    else
        run_buffered(r, begin, end);
}

/* First and last byte of an array's memory. */
static void span(const we_array *x, uintptr_t *low, uintptr_t *high) {
    *low = *high = (uintptr_t)x->data;
    for (int32_t axis = 0; axis < x->rank; axis++) {
        int64_t reach = (x->dims[axis] - 1) * x->strides[axis];
        if (reach < 0)
            *low -= (uintptr_t)-reach;
        else
            *high += (uintptr_t)reach;
    }
    *high += (uintptr_t)we_array_dtype_size(x->dtype) - 1;
}

static bool overlaps_apart(const we_array *x, const we_array *out) {
    uintptr_t x_low, x_high, out_low, out_high;
    span(x, &x_low, &x_high);
    span(out, &out_low, &out_high);
    if (x_low > out_high || out_low > x_high)
        return false;
    return x->data != out->data || x->dtype != out->dtype ||
           memcmp(x->strides, out->strides, (size_t)out->rank * sizeof *out->strides) != 0;
}

/* A dense copy of an input, in memory that the caller frees. */
static we_status copy_apart(we_array *x, void **memory, we_error *err) {
    we_array dense = *x;
    int64_t stride = we_array_dtype_size(x->dtype);
    for (int32_t axis = x->rank - 1; axis >= 0; axis--) {
        dense.strides[axis] = stride;
        stride *= x->dims[axis];
    }
    dense.data = *memory = we_memory_new_dirty((size_t)stride);
    if (!*memory)
        return we_error_no_memory(err);
    WE_TRY(we_array_copy(x, &dense, err));
    *x = dense;
    return WE_OK;
}

we_status we_array_loop_run(we_array_loop *loop, we_error *err) {
    const we_array *out = &loop->operands[loop->inputs];
    void *copies[WE_ARRAY_OPERANDS] = {NULL};
    int64_t count = we_array_count(out);
    we_status status = WE_OK;
    run r;
    plan p;
    if (count == 0)
        return WE_OK;
    WE_TRY(we_array_kernels_get(&r.kernels, err));
    for (int32_t i = 0; status == WE_OK && i < loop->inputs; i++) {
        if (overlaps_apart(&loop->operands[i], out))
            status = copy_apart(&loop->operands[i], &copies[i], err);
    }
    if (status == WE_OK) {
        make_plan(loop, &p);
        r.p = &p;
        int64_t grain = loop->grain ? loop->grain : GRAIN;
        if (count * p.size[loop->inputs] < SHARE_FROM && count < 2 * grain)
            run_range(&r, 0, count);
        else
            we_parallel_for(we_array_pool(), count, grain, run_range, &r);
    }
    for (int32_t i = 0; i < loop->inputs; i++)
        we_memory_free(copies[i]);
    return status;
}
