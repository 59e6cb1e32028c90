/* Resize of the two innermost dims of an image by one pass along its rows and one across them, row by row
 * while they are in cache. The passes come in the order that makes fewer rows go along: where the image
 * grows, every row of the input once, kept until no output needs it any more; where it shrinks, the mixed
 * rows. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "geometry/resize.h"

enum {
    MOST_TAPS = 64,
    MOST_POSITIONS = 1 << 20,
    STRIP = 16,       /* rows of the output that a thread makes in one go */
    GRAIN = 16 << 10, /* elements worth handing to a thread */
};

/* One axis; a resize of nothing sees one tap. */
typedef struct axis {
    int64_t in, out, taps;
    int32_t *at;    /* [taps, out], ascending along both */
    float *weights; /* likewise; NULL where one tap is picked */
    bool same;
} axis;

typedef struct parameters {
    int64_t items, inner; /* images, and elements that every position of a row has */
    axis rows, columns;
} parameters;

static bool ascends(const axis *a) {
    for (int64_t i = 0; i < a->taps * a->out; i++) {
        bool first = i % a->out == 0;
        if ((!first && a->at[i] < a->at[i - 1]) || (i >= a->out && a->at[i] < a->at[i - a->out]))
            return false;
    }
    return true;
}

/* The tables of one axis, rounded to float32. */
static bool read_axis(const we_resize_axis *from, bool same, we_arena *arena, axis *to) {
    *to = (axis){.in = from->in, .out = from->out, .taps = same ? 1 : we_resize_taps(from), .same = same};
    if (to->taps > MOST_TAPS || to->out > MOST_POSITIONS / to->taps || to->in > MOST_POSITIONS)
        return false;
    int64_t count = to->taps * to->out;
    bool weighs = !same && !we_resize_picks(from);
    int64_t *at = we_arena_new(arena, (size_t)count * sizeof *at);
    double *weights = we_arena_new(arena, (size_t)count * sizeof *weights);
    to->at = we_arena_new(arena, (size_t)count * sizeof *to->at);
    to->weights = weighs ? we_arena_new(arena, (size_t)count * sizeof *to->weights) : NULL;
    if (!at || !weights || !to->at || (weighs && !to->weights))
        return false;
    if (!same)
        we_resize_fill(from, at, weights);
    for (int64_t i = 0; i < count; i++) {
        to->at[i] = (int32_t)(same ? i : at[i]);
        if (weighs)
            to->weights[i] = (float)weights[i];
    }
    return ascends(to);
}

static bool is_known(const char *value, const char *first, const char *second, const char *third) {
    return strcmp(value, first) == 0 || strcmp(value, second) == 0 || strcmp(value, third) == 0;
}

/* Float32, modes that the rule knows, and no dims but `row` and the one behind it. */
static bool read(const we_call *call, int32_t row, we_arena *arena, parameters *p) {
    const we_tensor *x = call->in[0];
    we_resize shapes;
    we_resize_axis how = we_resize_modes(call->node);
    if (x->dtype != WE_F32 || x->count == 0 || we_resize_crops(&how) ||
        !is_known(how.mode, "nearest", "linear", "cubic") || we_resize_shapes(call, &shapes) != WE_OK)
        return false;
    p->items = p->inner = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        we_resize_axis own = how;
        bool same = we_resize_axis_is_same(&own, &shapes, x, i);
        if (i == row || i == row + 1) {
            if (own.out == 0 || !read_axis(&own, same, arena, i == row ? &p->rows : &p->columns))
                return false;
        } else if (!same) {
            return false;
        }
    }
    return true;
}

/* Images whose planes lie behind one another. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || x->rank < 2 || !read(call, x->rank - 2, arena, p))
        return false;
    p->items = x->count / (p->rows.in * p->columns.in);
    *out = p;
    return true;
}

/* Images whose channels lie together. */
static bool accept_last(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || x->rank != 4 || !read(call, 2, arena, p))
        return false;
    p->items = x->dims[0];
    p->inner = x->dims[1];
    *out = p;
    return true;
}

static int64_t row_of_input(const parameters *p) {
    return p->columns.in * p->inner;
}

static int64_t row_of_output(const parameters *p) {
    return p->columns.out * p->inner;
}

/* A step or less per tap. */
static double cost(const void *given) {
    const parameters *p = given;
    double outputs = (double)(p->items * p->rows.out * row_of_output(p));
    return outputs * (1 + (double)(p->rows.taps + p->columns.taps) / 2);
}

/* More than the other's, for where both may be had: between planes it needs two rasters. */
static double cost_last(const void *given) {
    return 2 * cost(given);
}

/* ---- One row ---- */

typedef struct job {
    const parameters *p;
    const we_kernels *kernels;
    const float *x;
    float *y;
    const we_run *run;
    float *scratch;
    int64_t strips, spare; /* strips of an image; elements of scratch for each thread */
} job;

/* The pass along a row, by whole vectors of what each position has. */
static void along_vectors(const job *j, const float *x, float *y) {
    const axis *a = &j->p->columns;
    int64_t inner = j->p->inner;
    const float *seen[MOST_TAPS];
    for (int64_t o = 0; o < a->out; o++, y += inner) {
        for (int64_t tap = 0; tap < a->taps; tap++)
            seen[tap] = x + a->at[tap * a->out + o] * inner;
        if (a->weights)
            j->kernels->mix(inner, a->taps, seen, a->weights + o, a->out, y);
        else
            memcpy(y, seen[0], (size_t)inner * sizeof *y);
    }
}

static void along(const job *j, const float *x, float *y) {
    const axis *a = &j->p->columns;
    we_resample how = {a->out, a->taps, a->in, a->at, a->weights};
    if (a->same)
        memcpy(y, x, (size_t)row_of_output(j->p) * sizeof *y);
    else if (j->p->inner == 1)
        j->kernels->resample(&how, x, y);
    else
        along_vectors(j, x, y);
}

/* ---- An image ---- */

/* Rows [begin, end) of an image that grows: rows gone along lie in the slot of their number. */
static void grow(const job *j, const float *x, float *y, int64_t begin, int64_t end, float *slots) {
    const axis *a = &j->p->rows;
    int64_t length = row_of_output(j->p), held[MOST_TAPS];
    const float *seen[MOST_TAPS];
    for (int64_t tap = 0; tap < a->taps; tap++)
        held[tap] = -1;
    for (int64_t o = begin; o < end; o++) {
        float *to = y + o * length;
        if (!a->weights && o > begin && a->at[o] == a->at[o - 1]) {
            memcpy(to, to - length, (size_t)length * sizeof *to);
            continue;
        }
        for (int64_t tap = 0; tap < a->taps; tap++) {
            int64_t row = a->at[tap * a->out + o], slot = row % a->taps;
            const float *from = x + row * row_of_input(j->p);
            seen[tap] = j->p->columns.same ? from : slots + slot * length;
            if (a->weights && seen[tap] != from && held[slot] != row)
                along(j, from, slots + slot * length);
            held[slot] = row;
        }
        if (a->weights)
            j->kernels->mix(length, a->taps, seen, a->weights + o, a->out, to);
        else
            along(j, x + a->at[o] * row_of_input(j->p), to);
    }
}

/* The same of an image that shrinks, mixed first. */
static void shrink(const job *j, const float *x, float *y, int64_t begin, int64_t end, float *mixed) {
    const axis *a = &j->p->rows;
    int64_t length = row_of_input(j->p);
    const float *seen[MOST_TAPS];
    for (int64_t o = begin; o < end; o++) {
        for (int64_t tap = 0; tap < a->taps; tap++)
            seen[tap] = x + a->at[tap * a->out + o] * length;
        if (a->weights)
            j->kernels->mix(length, a->taps, seen, a->weights + o, a->out, mixed);
        along(j, a->weights ? mixed : seen[0], y + o * row_of_output(j->p));
    }
}

static void resize(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const parameters *p = j->p;
    float *spare = j->scratch + we_run_worker(j->run) * j->spare;
    for (int64_t i = begin; i < end; i++) {
        int64_t item = i / j->strips, first = i % j->strips * STRIP;
        int64_t last = first + STRIP < p->rows.out ? first + STRIP : p->rows.out;
        const float *x = j->x + item * p->rows.in * row_of_input(p);
        float *y = j->y + item * p->rows.out * row_of_output(p);
        (p->rows.in < p->rows.out ? grow : shrink)(j, x, y, first, last, spare);
    }
}

static int64_t spare_of(const parameters *p) {
    int64_t slots = p->rows.taps * row_of_output(p), mixed = row_of_input(p);
    return slots > mixed ? slots : mixed;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    (void)program;
    return (size_t)(spare_of(command->u.claim.parameters) * threads) * sizeof(float);
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {.p = p,
             .kernels = run->kernels,
             .x = we_run_in(run, command, 0),
             .y = we_run_out(run, command),
             .run = run,
             .scratch = run->scratch,
             .strips = (p->rows.out + STRIP - 1) / STRIP,
             .spare = spare_of(p)};
    we_parallel_for(run->pool, p->items * j.strips, 1 + GRAIN / (STRIP * row_of_output(p)), resize, &j);
}

const we_claim_methods we_claim_resize = {
    .accept = accept, .cost = cost, .run = run_claim, .scratch_size = scratch_size, .planes = true};
const we_claim_methods we_claim_resize_last = {.accept = accept_last,
                                               .cost = cost_last,
                                               .run = run_claim,
                                               .scratch_size = scratch_size,
                                               .channels_last = true};
