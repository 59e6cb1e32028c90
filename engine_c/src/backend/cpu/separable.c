#include <string.h>

#include "backend/cpu/separable.h"

enum {
    STRIP = 16,         /* rows of the output that a thread makes in one go */
    NEAR_FLOATS = 4096, /* that stay in the first-level cache beside others */
    GRAIN = 16 << 10,   /* elements worth handing to a thread */
};

bool we_separable_axis_new(we_arena *arena, int64_t in, int64_t out, int64_t taps, bool weighted,
                           we_separable_axis *axis) {
    *axis = (we_separable_axis){.in = in, .out = out, .taps = taps};
    if (taps > WE_SEPARABLE_TAPS || out > WE_SEPARABLE_POSITIONS / taps || in > WE_SEPARABLE_POSITIONS)
        return false;
    axis->at = we_arena_new(arena, (size_t)(taps * out) * sizeof *axis->at);
    axis->weights = weighted ? we_arena_new(arena, (size_t)(taps * out) * sizeof *axis->weights) : NULL;
    return axis->at && (axis->weights || !weighted);
}

bool we_separable_axis_finish(we_separable_axis *a) {
    a->same = a->taps == 1 && !a->weights && a->in == a->out;
    for (int64_t i = 0; i < a->taps * a->out; i++) {
        bool first = i % a->out == 0;
        if ((!first && a->at[i] < a->at[i - 1]) || (i >= a->out && a->at[i] < a->at[i - a->out]))
            return false;
        a->same = a->same && a->at[i] == i;
    }
    return true;
}

static bool combines(const we_separable_axis *a) {
    return a->taps > 1 || a->weights;
}

static int64_t row_of_input(const we_separable *p) {
    return p->columns.in * p->inner;
}

static int64_t row_of_output(const we_separable *p) {
    return p->columns.out * p->inner;
}

static bool picks(const we_separable *p) {
    return p->inner == 1 && !combines(&p->rows) && !combines(&p->columns);
}

double we_separable_cost(const we_separable *p) {
    double outputs = (double)(p->items * p->rows.out * row_of_output(p));
    return outputs * (1 + (double)(p->rows.taps + p->columns.taps) / 8);
}

/* ---- One row ---- */

typedef struct job {
    const we_separable *p;
    const we_kernels *kernels;
    const float *x;
    float *y;
    const we_run *run;
    float *scratch;
    int64_t strips, spare; /* strips of an image; elements of scratch for each thread */
} job;

static const float *weights_of(const we_separable_axis *a, int64_t o) {
    return a->weights ? a->weights + o : NULL;
}

/* The pass along a row, by whole vectors of what each position has. */
static void along_vectors(const job *j, const float *x, float *y) {
    const we_separable_axis *a = &j->p->columns;
    int64_t inner = j->p->inner;
    const float *seen[WE_SEPARABLE_TAPS];
    for (int64_t o = 0; o < a->out; o++, y += inner) {
        for (int64_t tap = 0; tap < a->taps; tap++)
            seen[tap] = x + a->at[tap * a->out + o] * inner;
        if (combines(a))
            j->kernels->mix(inner, a->taps, seen, weights_of(a, o), a->out, y);
        else
            memcpy(y, seen[0], (size_t)inner * sizeof *y);
    }
}

static void along(const job *j, const float *x, float *y) {
    const we_separable_axis *a = &j->p->columns;
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
    const we_separable_axis *a = &j->p->rows;
    int64_t length = row_of_output(j->p), held[WE_SEPARABLE_TAPS];
    const float *seen[WE_SEPARABLE_TAPS];
    for (int64_t tap = 0; tap < a->taps; tap++)
        held[tap] = -1;
    for (int64_t o = begin; o < end; o++) {
        float *to = y + o * length;
        if (!combines(a) && o > begin && a->at[o] == a->at[o - 1]) {
            memcpy(to, to - length, (size_t)length * sizeof *to);
            continue;
        }
        for (int64_t tap = 0; tap < a->taps; tap++) {
            int64_t row = a->at[tap * a->out + o], slot = row % a->taps;
            const float *from = x + row * row_of_input(j->p);
            seen[tap] = j->p->columns.same ? from : slots + slot * length;
            if (combines(a) && seen[tap] != from && held[slot] != row)
                along(j, from, slots + slot * length);
            held[slot] = row;
        }
        if (combines(a))
            j->kernels->mix(length, a->taps, seen, weights_of(a, o), a->out, to);
        else
            along(j, x + a->at[o] * row_of_input(j->p), to);
    }
}

/* Rows of the output that `shrink` combines before it goes along them: what was just stored can be loaded as
 * it was stored alone, and a row is gone along from other places. */
static int64_t rows_combined(const we_separable *p) {
    int64_t most = NEAR_FLOATS / row_of_input(p);
    return most < 1 ? 1 : most < STRIP ? most : STRIP;
}

static void combine_row(const job *j, const float *x, int64_t o, float *to) {
    const we_separable_axis *a = &j->p->rows;
    const float *seen[WE_SEPARABLE_TAPS];
    for (int64_t tap = 0; tap < a->taps; tap++)
        seen[tap] = x + a->at[tap * a->out + o] * row_of_input(j->p);
    j->kernels->mix(row_of_input(j->p), a->taps, seen, weights_of(a, o), a->out, to);
}

/* The same of one that does not grow. */
static void shrink(const job *j, const float *x, float *y, int64_t begin, int64_t end, float *mixed) {
    const we_separable_axis *a = &j->p->rows;
    int64_t length = row_of_input(j->p), many = rows_combined(j->p);
    for (int64_t first = begin; first < end; first += many) {
        int64_t last = first + many < end ? first + many : end;
        for (int64_t o = first; o < last && combines(a); o++)
            combine_row(j, x, o, mixed + (o - first) * length);
        for (int64_t o = first; o < last; o++)
            along(j, combines(a) ? mixed + (o - first) * length : x + a->at[o] * length,
                  y + o * row_of_output(j->p));
    }
}

/* Rows [begin, end) of an image whose outputs are single elements. */
static void pick(const job *j, const float *x, float *y, int64_t begin, int64_t end) {
    const we_separable *p = j->p;
    we_picks how = {.rows = end - begin,
                    .columns = p->columns.out,
                    .in = {p->rows.in, p->columns.in},
                    .row_at = p->rows.at + begin,
                    .column_at = p->columns.at};
    j->kernels->pick(&how, x, y + begin * p->columns.out);
}

static void work(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_separable *p = j->p;
    float *spare = j->scratch + we_run_worker(j->run) * j->spare;
    for (int64_t i = begin; i < end; i++) {
        int64_t item = i / j->strips, first = i % j->strips * STRIP;
        int64_t last = first + STRIP < p->rows.out ? first + STRIP : p->rows.out;
        const float *x = j->x + item * p->rows.in * row_of_input(p);
        float *y = j->y + item * p->rows.out * row_of_output(p);
        if (picks(p))
            pick(j, x, y, first, last);
        else
            (p->rows.in < p->rows.out ? grow : shrink)(j, x, y, first, last, spare);
        y += first * row_of_output(p);
        if (p->factor != 1)
            j->kernels->binary[WE_BINARY_Mul][WE_F32]((last - first) * row_of_output(p), y, 1, &p->factor, 0,
                                                      y);
    }
}

static int64_t spare_of(const we_separable *p) {
    int64_t slots = p->rows.taps * row_of_output(p), mixed = rows_combined(p) * row_of_input(p);
    return slots > mixed ? slots : mixed;
}

size_t we_separable_scratch(const we_separable *p, int32_t threads) {
    return (size_t)(spare_of(p) * threads) * sizeof(float);
}

void we_separable_run(const we_run *run, const we_command *command, const we_separable *p) {
    job j = {.p = p,
             .kernels = run->kernels,
             .x = we_run_in(run, command, 0),
             .y = we_run_out(run, command),
             .run = run,
             .scratch = run->scratch,
             .strips = (p->rows.out + STRIP - 1) / STRIP,
             .spare = spare_of(p)};
    we_parallel_for(run->pool, p->items * j.strips, 1 + GRAIN / (STRIP * row_of_output(p)), work, &j);
}
