/* The gradient of a convolution by its weights: for every tap and channel, a sum over all positions of what
 * the tap saw there times the gradient of each filter. That is a product whose long side is what is summed
 * over:
 *
 *   out[filter, (tap, channel)] = sum over positions of gradient[position, filter] * seen[position, (tap,
 * channel)]
 *
 * Positions are taken in chunks. The gradient of a chunk is turned, so that filters are rows of A; what is
 * seen is gathered panel by panel where it is multiplied, so there is no matrix of patches. Later chunks add
 * to what is there. Image, gradient and result are channels last, the result as [filters, taps..., channels].
 */
#include <math.h>
#include <string.h>

#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"

enum {
    CHUNK_POSITIONS = 512, /* a panel of what is seen takes an eighth of the second-level cache */
    LINE_FLOATS = 16,
    TURN_FILTERS = 32, /* turned together */
    SEEN_STEPS = 4,    /* to gather an element, for every panel of rows that it serves */
};

typedef struct parameters {
    we_conv conv;    /* without weights */
    int64_t columns; /* of a group: taps times channels */
    int64_t chunk;   /* positions, of all images */
    we_matmul product;
} parameters;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *gradient = call->in[1];
    we_conv c = {0};
    if (call->in[0]->dtype != WE_F32 || !we_conv_read_window(call, NULL, &c) || gradient->count == 0)
        return false;
    c.group = we_node_int(call->node, "group", 1);
    c.channels = call->in[0]->dims[1] / c.group;
    c.filters = gradient->dims[1] / c.group;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || c.channels == 0 || we_conv_has_small_groups(&c))
        return false;
    int64_t positions = c.items * c.positions;
    *p = (parameters){.conv = c, .columns = c.w.taps * c.channels};
    p->chunk = we_panels(positions, we_panels(positions, CHUNK_POSITIONS));
    p->product =
        (we_matmul){.m = c.filters, .n = p->columns, .k = positions, .batch_rank = 1, .batch = {c.group}};
    *out = p;
    return true;
}

/* Gathering and turning; the product is priced by the search. */
static double cost(const void *given) {
    const parameters *p = given;
    const we_conv *c = &p->conv;
    double positions = (double)(c->items * c->positions * c->group);
    return SEEN_STEPS * positions * (double)(p->columns + c->filters);
}

static const we_matmul *product(const void *given) {
    return &((const parameters *)given)->product;
}

/* ---- Scratch: the turned gradient of a chunk, and that rounded; then, of each thread, a panel of what is
 * seen and room for its product ---- */

/* An odd number of cache lines, so that rows spread over the sets of the cache. */
static int64_t row_floats(const parameters *p) {
    return (we_panels(p->chunk, LINE_FLOATS) | 1) * LINE_FLOATS;
}

/* Words of a rounded row. */
static int64_t row_words(const parameters *p) {
    return (we_panels(p->chunk, 2 * LINE_FLOATS) | 1) * LINE_FLOATS;
}

static int64_t all_filters(const parameters *p) {
    return p->conv.group * p->conv.filters;
}

static bool rounds(const we_matmul_row *kernel) {
    return kernel->parts == 1;
}

static int64_t turned_floats(const parameters *p, const we_matmul_row *kernel) {
    return all_filters(p) * (row_floats(p) + (rounds(kernel) ? row_words(p) : 0));
}

/* Of a product: rounded neighbours share a word, the last of an odd number with nothing. */
static int64_t depth_of(const we_matmul_row *kernel, int64_t positions) {
    return rounds(kernel) ? 2 * we_panels(positions, 2) : positions;
}

/* The part of a group's product that a thread computes at once: one panel. Kernels of float32 take what is
 * seen as it is gathered. */
static we_gemm gemm_of(const parameters *p, const we_matmul_row *kernel) {
    return (we_gemm){.kernel = kernel,
                     .m = p->conv.filters,
                     .n = we_least(kernel->columns, p->columns),
                     .runs = 1,
                     .depth = depth_of(kernel, p->chunk),
                     .narrow_rows = rounds(kernel),
                     .a_row = rounds(kernel) ? row_words(p) : row_floats(p),
                     .b_row = kernel->columns,
                     .b_column = 1,
                     .ldc = p->columns,
                     .low = -INFINITY,
                     .high = INFINITY};
}

static int64_t seen_floats(const parameters *p, const we_matmul_row *kernel) {
    return depth_of(kernel, p->chunk) * kernel->columns;
}

static int64_t thread_floats(const parameters *p, const we_matmul_row *kernel) {
    we_gemm gemm = gemm_of(p, kernel);
    return seen_floats(p, kernel) + (int64_t)(we_gemm_scratch(&gemm, 1) / sizeof(float));
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    (void)program;
    const we_matmul_row *kernel = command->u.claim.kernel;
    return (size_t)(turned_floats(p, kernel) + threads * thread_floats(p, kernel)) * sizeof(float);
}

/* ---- Running ---- */

typedef struct chunk {
    const we_run *run;
    const we_command *command;
    const parameters *p;
    int64_t first, count; /* positions */
    float *turned, *rounded, *own;
} chunk;

static void turn_filters(void *context, int64_t begin, int64_t end) {
    const chunk *k = context;
    const we_matmul_row *kernel = k->command->u.claim.kernel;
    const int64_t filters = all_filters(k->p), row = row_floats(k->p), words = row_words(k->p);
    const float *gradient = (const float *)we_claim_in(k->run, k->command, 1) + k->first * filters;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i * TURN_FILTERS, count = we_least(TURN_FILTERS, filters - first);
        k->run->kernels->transpose(count, k->count, (const uint32_t *)(gradient + first), filters,
                                   (uint32_t *)(k->turned + first * row), row);
        for (int64_t f = first; f < first + count && rounds(kernel); f++)
            kernel->split.split(1, k->count, k->turned + f * row, words, k->rounded + f * words, 0);
    }
}

/* What lies together in the image for a position: `count` floats from `column` of the result's on, of a
 * kernel row where its taps are neighbours and one group has all channels, else of a tap. */
typedef struct stretch {
    int64_t row, column, channel, count; /* row and column of the kernel; the first float in that column's */
} stretch;

static stretch stretch_at(const parameters *p, int64_t column, int64_t end) {
    const we_conv *c = &p->conv;
    const int64_t width = c->w.kernel[1] * c->channels, in_row = column % width;
    stretch s = {.row = column / width, .column = in_row / c->channels, .channel = in_row % c->channels};
    bool neighbours = c->group == 1 && c->w.dilation[1] == 1;
    s.count = we_least(end - column, neighbours ? width - in_row : c->channels - s.channel);
    return s;
}

/* Copy what lies in [0, width) of a row that starts at x, from `at` on; zeros outside. */
static inline void copy_inside(const float *x, int64_t at, int64_t width, int64_t count, float *to) {
    int64_t before = at < 0 ? we_least(-at, count) : 0;
    int64_t inside = we_least(count, width - at) - before;
    inside = inside < 0 ? 0 : inside;
    memset(to, 0, (size_t)before * sizeof *to);
    memcpy(to + before, x + at + before, (size_t)inside * sizeof *to);
    memset(to + before + inside, 0, (size_t)(count - before - inside) * sizeof *to);
}

/* Few, or the 32 that most panels are: no call. */
static inline void copy_floats(const float *from, int64_t count, float *to) {
    if (count == 32) {
        memcpy(to, from, 32 * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        to[i] = from[i];
}

/* One stretch for all positions of the chunk, `pitch` floats apart. */
static void gather_stretch(const chunk *k, int64_t group, const stretch *s, int64_t pitch, float *to) {
    const we_conv *c = &k->p->conv;
    const we_window *w = &c->w;
    const int64_t all = we_conv_channels_in(c), width = w->in[1] * all;
    const float *x = we_run_in(k->run, k->command, 0);
    int64_t item = k->first / c->positions, y = k->first % c->positions / w->out[1];
    int64_t out_x = k->first % c->positions % w->out[1];
    const int64_t offset =
        (s->column * w->dilation[1] - w->pad_begin[1]) * all + group * c->channels + s->channel;
    for (int64_t i = 0; i < k->count; y++) {
        if (y == w->out[0])
            y = 0, item++;
        int64_t row = y * w->stride[0] + s->row * w->dilation[0] - w->pad_begin[0];
        bool has_row = row >= 0 && row < w->in[0];
        const float *from = x + (item * w->in[0] + (has_row ? row : 0)) * width;
        const int64_t step = w->stride[1] * all, end = we_least(k->count, i + w->out[1] - out_x);
        int64_t at = offset + out_x * step;
        for (; i < end && (!has_row || at < 0); i++, to += pitch, at += step)
            copy_inside(from, has_row ? at : width, width, s->count, to);
        for (; i < end && at + s->count <= width; i++, to += pitch, at += step)
            copy_floats(from + at, s->count, to);
        for (; i < end; i++, to += pitch, at += step)
            copy_inside(from, at, width, s->count, to);
        out_x = 0;
    }
}

static void multiply_panels(void *context, int64_t begin, int64_t end) {
    const chunk *k = context;
    const parameters *p = k->p;
    const we_conv *c = &p->conv;
    const we_matmul_row *kernel = k->command->u.claim.kernel;
    const int64_t panels = we_panels(p->columns, kernel->columns);
    float *seen = k->own + we_run_worker(k->run) * thread_floats(p, kernel);
    for (int64_t i = begin; i < end; i++) {
        int64_t group = i / panels, first = i % panels * kernel->columns;
        int64_t last = we_least(first + kernel->columns, p->columns);
        for (int64_t column = first; column < last;) {
            stretch s = stretch_at(p, column, last);
            gather_stretch(k, group, &s, kernel->columns, seen + column - first);
            column += s.count;
        }
        we_gemm gemm = gemm_of(p, kernel);
        gemm.n = last - first;
        gemm.depth = depth_of(kernel, k->count);
        gemm.a = (rounds(kernel) ? k->rounded : k->turned) + group * c->filters * gemm.a_row;
        gemm.packed = kernel->parts ? NULL : seen;
        gemm.b = seen;
        gemm.c = (float *)we_run_out(k->run, k->command) + group * c->filters * p->columns + first;
        gemm.accumulate = k->first > 0;
        memset(seen + k->count * kernel->columns, 0,
               (size_t)((gemm.depth - k->count) * kernel->columns) * sizeof *seen);
        if (gemm.packed && gemm.n < kernel->columns)
            for (int64_t row = 0; row < k->count; row++)
                memset(seen + row * kernel->columns + gemm.n, 0,
                       (size_t)(kernel->columns - gemm.n) * sizeof *seen);
        we_gemm_run(NULL, &gemm, seen + seen_floats(p, kernel));
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    const int64_t positions = c->items * c->positions, filters = c->group * c->filters;
    const int64_t panels = we_panels(p->columns, command->u.claim.kernel->columns);
    chunk k = {.run = run, .command = command, .p = p, .turned = run->scratch};
    k.rounded = k.turned + filters * row_floats(p);
    k.own = k.turned + turned_floats(p, command->u.claim.kernel);
    for (; k.first < positions; k.first += k.count) {
        k.count = we_least(p->chunk, positions - k.first);
        int64_t steps = k.count * c->filters * command->u.claim.kernel->columns;
        we_parallel_for(run->pool, we_panels(filters, TURN_FILTERS), 1 + 8192 / (k.count * TURN_FILTERS),
                        turn_filters, &k);
        we_parallel_for(run->pool, c->group * panels, 1 + 100000 / steps, multiply_panels, &k);
    }
}

const we_claim_methods we_claim_filter_gradient = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .product = product,
    .scratch_size = scratch_size,
    .splits = true,
    .reads = 1 << 1,
    .reads_last = 1 << 1,
    .channels_last = true,
};
