/* Loops that copy or combine little per iteration, as indexed reads and writes do: the places of some
 * iterations are worked out together, in passes that do one thing, and then the elements move. The plain way,
 * a cursor that steps from iteration to iteration, is in loop.c. */
#include "backend/cpu/loop.h"

#include <stdatomic.h>
#include <string.h>

#include "base/dtype.h"
#include "ops/ops.h"

enum {
    PIECE = 256, /* iterations: their places stay in the first-level cache */
};

/* Where the iterations find one operand, in bytes from `base`. */
typedef struct side {
    const we_loop_view *view; /* NULL: at the same place always */
    char *base;
    int64_t width;
    we_tensor index; /* with data */
} side;

typedef struct job {
    const we_run *run;
    const we_loop *loop;
    side from[2], to;     /* from[1] of a binary function */
    int64_t slice;        /* bytes that an iteration copies */
    bool dense;           /* to one place behind the other */
    _Atomic bool outside; /* an index was */
} job;

/* ---- Places ---- */

/* out[j] = start + j * step, how a side moves that no index moves. */
static void place_evenly(int64_t start, int64_t step, int64_t count, int64_t *out) {
    for (int64_t j = 0; j < count; j++)
        out[j] = start + j * step;
}

/* out[j] += what the components of its index say, in any type. */
static bool add_components(const side *s, int64_t at, int64_t stride, int64_t count, int64_t *out) {
    const we_loop_index *index = &s->view->index;
    bool inside = true;
    for (int64_t j = 0; j < count; j++) {
        for (int32_t c = 0; c < index->components; c++) {
            int64_t value = we_tensor_integer(&s->index, at + j * stride + c);
            value += value < 0 ? index->extent[c] : 0;
            inside &= value >= 0 && value < index->extent[c];
            out[j] += value * index->step[c] * s->width;
        }
    }
    return inside;
}

/* Iterations along the innermost dim: places from `start`, `step` apart, indices from `number`, `stride`
 * apart. */
static bool place_row(const we_kernels *kernels, const side *s, int64_t start, int64_t step, int64_t number,
                      int64_t stride, int64_t count, int64_t *out) {
    const we_loop_index *index = &s->view->index;
    if (index->tensor >= 0 && index->components == 1 && s->index.dtype == WE_I64) {
        we_place p = {count, stride, index->extent[0], index->step[0] * s->width, start, step};
        return kernels->place(&p, (const int64_t *)s->index.data + number, out);
    }
    place_evenly(start, step, count, out);
    return index->tensor < 0 || add_components(s, number, stride, count, out);
}

/* Iterations [begin, begin + count) of one side; false where an index is outside. */
static bool place(const job *j, const side *s, int64_t begin, int64_t count, int64_t *out) {
    const we_loop *loop = j->loop;
    int64_t x[WE_MAX_RANK] = {0}, row = loop->rank ? loop->size[loop->rank - 1] : 1;
    int32_t last = loop->rank - 1;
    bool inside = true;
    if (!s->view) {
        memset(out, 0, (size_t)count * sizeof *out);
        return true;
    }
    for (int32_t i = loop->rank; i-- > 0; begin /= loop->size[i])
        x[i] = begin % loop->size[i];
    const we_address *at = &s->view->at, *index = &s->view->index.at;
    while (count > 0) {
        int64_t run = row - (last >= 0 ? x[last] : 0), from = at->offset, number = index->offset;
        run = run < count ? run : count;
        for (int32_t i = 0; i < loop->rank; i++) {
            from += x[i] * at->stride[i];
            number += x[i] * index->stride[i];
        }
        int64_t step = last >= 0 ? at->stride[last] * s->width : 0;
        inside &= place_row(j->run->kernels, s, from * s->width, step, number,
                            last >= 0 ? index->stride[last] : 0, run, out);
        out += run;
        count -= run;
        if (last >= 0)
            x[last] = 0;
        for (int32_t i = last; i-- > 0 && ++x[i] == loop->size[i];)
            x[i] = 0;
    }
    return inside;
}

/* ---- Elements ---- */

static inline __attribute__((always_inline)) void
move(int64_t count, size_t bytes, const char *from, const int64_t *from_at, char *to, const int64_t *to_at) {
    for (int64_t j = 0; j < count; j++)
        memcpy(to + to_at[j], from + from_at[j], bytes);
}

/* The same to places one behind the other. */
static inline __attribute__((always_inline)) void collect(int64_t count, size_t bytes, const char *from,
                                                          const int64_t *from_at, char *to) {
    for (int64_t j = 0; j < count; j++)
        memcpy(to + j * (int64_t)bytes, from + from_at[j], bytes);
}

static void collect_sized(int64_t count, size_t bytes, const char *from, const int64_t *from_at, char *to) {
    if (bytes == 4)
        collect(count, 4, from, from_at, to);
    else if (bytes == 8)
        collect(count, 8, from, from_at, to);
    else
        collect(count, bytes, from, from_at, to);
}

/* `bytes` is a constant in each case, so that a copy is a load and a store. */
static void move_sized(int64_t count, size_t bytes, const char *from, const int64_t *from_at, char *to,
                       const int64_t *to_at) {
    switch (bytes) {
    case 1:
        move(count, 1, from, from_at, to, to_at);
        return;
    case 2:
        move(count, 2, from, from_at, to, to_at);
        return;
    case 4:
        move(count, 4, from, from_at, to, to_at);
        return;
    case 8:
        move(count, 8, from, from_at, to, to_at);
        return;
    case 16:
        move(count, 16, from, from_at, to, to_at);
        return;
    case 32:
        move(count, 32, from, from_at, to, to_at);
        return;
    default:
        move(count, bytes, from, from_at, to, to_at);
    }
}

static void combine(const job *j, int64_t count, const int64_t *left, const int64_t *right,
                    const int64_t *to) {
    const we_command *body = &j->loop->body[0];
    const we_walk *walk = &body->u.binary.walk;
    we_binary_kernel kernel =
        j->run->kernels->binary[body->u.binary.fn][j->run->program->tensors[body->in[0]].dtype];
    int64_t n = walk->rank ? walk->size[0] : 1;
    int64_t left_step = walk->rank ? walk->step[0][0] : 0, right_step = walk->rank ? walk->step[1][0] : 0;
    for (int64_t i = 0; i < count; i++)
        kernel(n, j->from[0].base + left[i], left_step, j->from[1].base + right[i], right_step,
               j->to.base + to[i]);
}

static bool run_piece(job *j, int64_t begin, int64_t count) {
    const we_command *body = &j->loop->body[0];
    int64_t from[PIECE], other[PIECE], to[PIECE];
    if (!place(j, &j->from[0], begin, count, from))
        return false;
    if (j->dense) {
        int64_t start = j->to.view->at.offset * j->to.width + begin * j->slice;
        collect_sized(count, (size_t)j->slice, j->from[0].base, from, j->to.base + start);
        return true;
    }
    if (!place(j, &j->to, begin, count, to))
        return false;
    if (body->kind == WE_COMMAND_RASTER) {
        move_sized(count, (size_t)j->slice, j->from[0].base, from, j->to.base, to);
        return true;
    }
    if (!place(j, &j->from[1], begin, count, other))
        return false;
    combine(j, count, from, other, to);
    return true;
}

static void run_range(void *context, int64_t begin, int64_t end) {
    job *j = context;
    for (int64_t at = begin; at < end && !atomic_load_explicit(&j->outside, memory_order_relaxed);
         at += PIECE) {
        if (!run_piece(j, at, end - at < PIECE ? end - at : PIECE))
            atomic_store_explicit(&j->outside, true, memory_order_relaxed);
    }
}

static side side_of(const we_run *run, const we_loop *loop, int32_t tensor) {
    side s = {.base = run->memory[tensor]};
    for (size_t v = 0; v < loop->view_count; v++) {
        const we_loop_view *view = &loop->views[v];
        if (view->view != tensor)
            continue;
        s.view = view;
        s.base = run->memory[view->base];
        s.width = (int64_t)we_dtype_size(run->program->tensors[tensor].dtype);
        if (view->index.tensor >= 0) {
            s.index = run->program->tensors[view->index.tensor];
            s.index.data = run->memory[view->index.tensor];
        }
    }
    return s;
}

/* Do the iterations write `each` elements one behind the other? */
static bool is_dense(const we_loop *loop, const side *to, int64_t each) {
    if (!to->view || to->view->index.tensor >= 0)
        return false;
    for (int32_t i = loop->rank; i-- > 0; each *= loop->size[i]) {
        if (loop->size[i] > 1 && to->view->at.stride[i] != each)
            return false;
    }
    return true;
}

bool we_cpu_loop_pieces(const we_run *run, const we_loop *loop, int64_t grain) {
    const we_command *body = &loop->body[0];
    bool raster = body->kind == WE_COMMAND_RASTER;
    job j = {.run = run, .loop = loop, .to = side_of(run, loop, body->out)};
    j.from[0] = side_of(run, loop, raster ? body->u.raster.regions[0].source : body->in[0]);
    int64_t each = run->program->tensors[body->out].count;
    j.slice = each * j.to.width;
    j.dense = raster && is_dense(loop, &j.to, each);
    if (!raster)
        j.from[1] = side_of(run, loop, body->in[1]);
    we_parallel_for(loop->independent ? run->pool : NULL, we_loop_iterations(loop), grain, run_range, &j);
    return !atomic_load(&j.outside);
}
