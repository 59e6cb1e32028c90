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

void we_array_share(bool shared, int64_t count, int64_t grain, we_pool_work work, void *context) {
    if (!shared || count <= grain) {
        if (count > 0)
            work(context, 0, count);
        return;
    }
    we_pool *quota = we_array_pool();
    we_pool_run_begins();
    we_parallel_for(quota, count, grain, work, context);
    we_pool_run_ends();
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

static int64_t magnitude(int64_t x) {
    return x < 0 ? -x : x;
}

/* Large strides go outside: those of the leading operand first, then of the others. */
static bool goes_before(const we_array_nest *nest, int32_t lead, int32_t a, int32_t b) {
    for (int32_t n = 0; n < nest->operands; n++) {
        const int64_t *strides = nest->strides[(lead + n) % nest->operands];
        int64_t x = magnitude(strides[a]), y = magnitude(strides[b]);
        if (x != y && x != 0 && y != 0)
            return x > y;
    }
    return a < b;
}

static void swap_axes(we_array_nest *nest, int32_t a, int32_t b) {
    int64_t dim = nest->dims[a];
    nest->dims[a] = nest->dims[b];
    nest->dims[b] = dim;
    for (int32_t i = 0; i < nest->operands; i++) {
        int64_t stride = nest->strides[i][a];
        nest->strides[i][a] = nest->strides[i][b];
        nest->strides[i][b] = stride;
    }
}

static bool merges(const we_array_nest *nest, int32_t outer, int32_t inner) {
    for (int32_t i = 0; i < nest->operands; i++) {
        if (nest->strides[i][outer] != nest->strides[i][inner] * nest->dims[inner])
            return false;
    }
    return true;
}

void we_array_nest_make(we_array_nest *nest, int32_t operands, const we_array *const *arrays, int32_t lead) {
    int32_t rank = 0;
    nest->rank = 0;
    nest->operands = operands;
    for (int32_t axis = 0; axis < arrays[0]->rank; axis++) {
        if (arrays[0]->dims[axis] == 1)
            continue;
        nest->dims[nest->rank] = arrays[0]->dims[axis];
        for (int32_t i = 0; i < operands; i++)
            nest->strides[i][nest->rank] = arrays[i]->strides[axis];
        for (int32_t i = nest->rank++; i > 0 && goes_before(nest, lead, i, i - 1); i--) /* ranks are small */
            swap_axes(nest, i, i - 1);
    }
    for (int32_t axis = 0; axis < nest->rank; axis++) {
        if (rank > 0 && merges(nest, rank - 1, axis))
            nest->dims[rank - 1] *= nest->dims[axis];
        else
            nest->dims[rank++] = nest->dims[axis];
        for (int32_t i = 0; i < operands; i++)
            nest->strides[i][rank - 1] = nest->strides[i][axis];
    }
    nest->rank = rank;
    if (rank == 0) { /* one element */
        nest->dims[nest->rank++] = 1;
        for (int32_t i = 0; i < operands; i++)
            nest->strides[i][0] = we_array_dtype_size(arrays[i]->dtype);
    }
}

we_array_place we_array_place_at(const we_array_nest *nest, int64_t position) {
    we_array_place at;
    for (int32_t axis = nest->rank - 1; axis >= 0; axis--) {
        at.index[axis] = position % nest->dims[axis];
        position /= nest->dims[axis];
    }
    return at;
}

int64_t we_array_offset(const we_array_nest *nest, int32_t operand, const we_array_place *at) {
    int64_t offset = 0;
    for (int32_t axis = 0; axis < nest->rank; axis++)
        offset += at->index[axis] * nest->strides[operand][axis];
    return offset;
}

/* ---- The plan of a loop ---- */

typedef struct plan {
    const we_array_loop *loop;
    we_array_nest nest;
    int64_t size[WE_ARRAY_OPERANDS], computed_size[WE_ARRAY_OPERANDS];
    bool converts[WE_ARRAY_OPERANDS];
    bool direct;   /* every row of every operand lies together and needs no conversion */
    int64_t chunk; /* elements through the buffer at once */
} plan;

static void make_plan(const we_array_loop *loop, plan *p) {
    const we_array *arrays[WE_ARRAY_OPERANDS];
    int64_t widest = 1;
    p->loop = loop;
    for (int32_t i = 0; i <= loop->inputs; i++)
        arrays[i] = &loop->operands[i];
    we_array_nest_make(&p->nest, loop->inputs + 1, arrays, loop->inputs);
    p->direct = true;
    for (int32_t i = 0; i <= loop->inputs; i++) {
        p->size[i] = we_array_dtype_size(loop->operands[i].dtype);
        p->computed_size[i] = we_array_dtype_size(loop->computed[i]);
        p->converts[i] = loop->operands[i].dtype != loop->computed[i];
        p->direct = p->direct && !p->converts[i] && p->nest.strides[i][p->nest.rank - 1] == p->size[i];
        widest = p->size[i] > widest ? p->size[i] : widest;
        widest = p->computed_size[i] > widest ? p->computed_size[i] : widest;
    }
    p->chunk = BUFFER / widest;
}

/* ---- Moving elements between strided memory and a buffer ---- */

#define MOVE(T)                                                                                              \
    for (int64_t i = 0; i < n; i++)                                                                          \
    memcpy(to + i * to_stride, from + i * from_stride, sizeof(T))

void we_array_move(int64_t n, int64_t size, const char *from, int64_t from_stride, char *to,
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

static char *address(const plan *p, int32_t operand, const we_array_place *at) {
    return p->loop->operands[operand].data + we_array_offset(&p->nest, operand, at);
}

/* Move on by n elements, not past the end of the row unless exactly to it. */
static void advance(const plan *p, we_array_place *at, int64_t n) {
    int32_t axis = p->nest.rank - 1;
    at->index[axis] += n;
    for (; axis > 0 && at->index[axis] == p->nest.dims[axis]; axis--) {
        at->index[axis] = 0;
        at->index[axis - 1]++;
    }
}

/* Move n elements of an operand, from `at` on over as many rows as it takes, into a buffer or back. */
static void stage(const plan *p, int32_t operand, we_array_place at, int64_t n, char *buffer, bool back) {
    int64_t size = p->size[operand], stride = p->nest.strides[operand][p->nest.rank - 1],
            row = p->nest.dims[p->nest.rank - 1];
    while (n > 0) {
        int64_t left = row - at.index[p->nest.rank - 1], count = n < left ? n : left;
        char *lies = address(p, operand, &at);
        if (back)
            we_array_move(count, size, buffer, size, lies, stride);
        else
            we_array_move(count, size, lies, stride, buffer, size);
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
    /* One element that stands for a whole row is spread out once: where it is, and how often. */
    const char *spread[WE_ARRAY_OPERANDS];
    int64_t spread_count[WE_ARRAY_OPERANDS];
} buffers;

/* Is the element at `from` in its buffer n times already? If not, it is about to be. */
static bool is_spread(buffers *b, int32_t operand, const char *from, int64_t n) {
    if (b->spread[operand] == from && b->spread_count[operand] >= n)
        return true;
    b->spread[operand] = from;
    b->spread_count[operand] = n;
    return false;
}

static void run_staged(const run *r, buffers *b, const we_array_place *at, int64_t n) {
    const plan *p = r->p;
    const we_array_loop *loop = p->loop;
    int32_t result = loop->inputs, inner = p->nest.rank - 1;
    bool in_row = at->index[inner] + n <= p->nest.dims[inner];
    void *operands[WE_ARRAY_OPERANDS];
    for (int32_t i = 0; i <= result; i++) {
        bool together = in_row && p->nest.strides[i][inner] == p->size[i];
        char *raw = together ? address(p, i, at) : b->raw[i];
        operands[i] = p->converts[i] ? b->computed[i] : raw;
        bool single = i < result && in_row && p->nest.strides[i][inner] == 0;
        if (single && is_spread(b, i, address(p, i, at), n))
            continue;
        if (i < result && !single)
            b->spread[i] = NULL;
        if (i < result && !together)
            stage(p, i, *at, n, raw, false);
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
    int64_t row = p->nest.dims[p->nest.rank - 1];
    we_array_place at = we_array_place_at(&p->nest, begin);
    while (begin < end) {
        int64_t left = row - at.index[p->nest.rank - 1], n = end - begin < left ? end - begin : left;
        void *operands[WE_ARRAY_OPERANDS];
        for (int32_t i = 0; i < p->nest.operands; i++)
            operands[i] = address(p, i, &at);
        p->loop->step(p->loop->kernel, n, operands);
        begin += n;
        advance(p, &at, n);
    }
}

static void run_buffered(const run *r, int64_t begin, int64_t end) {
    const plan *p = r->p;
    buffers b;
    memset(b.spread, 0, sizeof b.spread);
    int64_t row = p->nest.dims[p->nest.rank - 1];
    we_array_place at = we_array_place_at(&p->nest, begin);
    while (begin < end) {
        int64_t left = row - at.index[p->nest.rank - 1];
        int64_t most = row < SHORT_ROW || left > end - begin ? end - begin : left;
        int64_t n = most < p->chunk ? most : p->chunk;
        run_staged(r, &b, &at, n);
        begin += n;
        if (begin < end)
            at = n <= left ? (advance(p, &at, n), at) : we_array_place_at(&p->nest, begin);
    }
}

static void run_range(void *context, int64_t begin, int64_t end) {
    const run *r = context;
    const plan *p = r->p;
    if (p->direct && (p->nest.rank == 1 || p->nest.dims[p->nest.rank - 1] >= SHORT_ROW))
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
            we_array_share(true, count, grain, run_range, &r);
    }
    for (int32_t i = 0; i < loop->inputs; i++)
        we_memory_free(copies[i]);
    return status;
}
