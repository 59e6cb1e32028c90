/* Convolution as a product without the matrix of patches: an output position is a row of A, made of one run
 * for every tap, [channels] long, that lies in the image or in a stretch of zeros. Where channels are few,
 * runs that short would not pay: the images are then stored with their padding around them, so that all taps
 * of a kernel row make one run. Such an image may also be given channels first, as a model's input is, and is
 * turned while it is stored.
 *
 * An image of bfloat16 is one of words, two channels each. One that is stored for a product of bfloat16 is
 * rounded while it is, with a channel of zeros where they are odd in number. */
#include <math.h>
#include <string.h>

#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"
#include "base/error.h"

enum {
    FEW_CHANNELS = 32,      /* below which images are stored */
    CHUNK_POSITIONS = 4096, /* of images that are stored and multiplied together */
    STRETCH = 64,           /* positions that are rounded together */
    GROUPS_PER_THREAD = 2,
    PACK_STEPS = 8, /* of a weight that varies */
};

typedef struct parameters {
    we_conv conv;
    bool stored, plain;    /* images need storing; they come channels first */
    int64_t rows, columns; /* of a stored image */
    int64_t channels;      /* that the product sees */
    int64_t chunk;         /* images stored at once */
    we_matmul product;     /* of one group */
    int64_t runs, depth;   /* its k */
    const float *packed;   /* filters, group by group; made at preparation, or by a run where they vary */
    float *zeros;          /* a run outside the image; likewise */
} parameters;

/* Columns or rows that the taps reach, padding included. */
static int64_t reach(const we_window *w, int32_t i) {
    return (w->out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
}

/* Are rows of A the image's own? */
static bool is_pointwise(const we_conv *c) {
    const we_window *w = &c->w;
    return w->taps == 1 && w->stride[0] == 1 && w->stride[1] == 1 && w->out[0] == w->in[0] &&
           w->out[1] == w->in[1];
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_conv_read_varying(call, &conv) || (conv.weights_vary && we_conv_has_small_groups(&conv)))
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    const we_window *w = &conv.w;
    p->conv = conv;
    p->stored =
        !is_pointwise(&conv) && conv.group == 1 && conv.channels < FEW_CHANNELS && w->dilation[1] == 1;
    p->plain = p->stored && call->in[0]->kind == WE_TENSOR_INPUT;
    p->channels = conv.channels;
    p->rows = reach(w, 0);
    p->columns = reach(w, 1);
    p->chunk = we_least(we_panels(CHUNK_POSITIONS, conv.positions), conv.items);
    p->runs = p->stored ? w->kernel[0] : w->taps;
    p->depth = p->stored ? w->kernel[1] * conv.channels : conv.channels;
    p->product = (we_matmul){.m = conv.items * conv.positions,
                             .n = conv.filters,
                             .k = conv.channels * w->taps,
                             .batch_rank = 1,
                             .batch = {conv.group}};
    *out = p;
    return conv.channels > 0;
}

static bool reads_plain(const void *given) {
    return ((const parameters *)given)->plain;
}

static int64_t stored_floats(const parameters *p) {
    return p->stored ? p->rows * p->columns * p->channels : 0; /* of one image */
}

/* Storing the images, and packing filters that vary; the product is priced by the search. */
static double cost(const void *given) {
    const parameters *p = given;
    const we_conv *c = &p->conv;
    double packing = c->weights_vary ? PACK_STEPS * (double)(c->group * c->filters * p->product.k) : 0;
    return (double)(c->items * stored_floats(p)) * (p->plain ? 10 : 4) + packing;
}

static const we_matmul *product(const void *given) {
    return &((const parameters *)given)->product;
}

static int64_t packed_floats(const parameters *p, const we_matmul_row *kernel) {
    return we_gemm_packed_runs(kernel, p->conv.filters, p->runs, p->depth); /* of one group */
}

/* Is the image rounded while it is stored, if it is not of bfloat16 already? */
static bool stores_narrow(const parameters *p, const we_matmul_row *kernel) {
    return p->stored && kernel->parts == 1;
}

/* Filters of all groups with zeros for channels that are added, in the order of weights that are not turned.
 */
static void pad_filters(const parameters *p, const float *weights, float *to) {
    const we_conv *c = &p->conv;
    const we_conv_steps at = we_conv_weight_steps(c);
    for (int64_t f = 0; f < c->filters; f++) {
        for (int64_t channel = 0; channel < p->channels; channel++) {
            for (int64_t tap = 0; tap < c->w.taps; tap++)
                *to++ = channel < c->channels
                            ? weights[at.first + f * at.filter + channel * at.channel + tap * at.tap]
                            : 0;
        }
    }
}

static int64_t padded_floats(const parameters *p) {
    const we_conv *c = &p->conv; /* of one group: images are stored then */
    return p->channels == c->channels ? 0 : c->filters * p->channels * c->w.taps;
}

/* The B of the first group. */
static we_gemm_right right_of(const parameters *p, const float *weights, bool padded) {
    const we_conv *c = &p->conv;
    we_conv_steps at = we_conv_weight_steps(c);
    if (padded)
        at = (we_conv_steps){.filter = p->channels * c->w.taps, .channel = c->w.taps, .tap = 1};
    int64_t pieces = p->stored ? c->w.kernel[1] : 1;
    return (we_gemm_right){.b = weights + at.first,
                           .run = pieces * at.tap,
                           .pieces = pieces,
                           .piece = at.tap,
                           .row = at.channel,
                           .column = at.filter,
                           .n = c->filters,
                           .runs = p->runs,
                           .depth = p->depth};
}

static we_status pack_weights(we_program *program, const we_command *command, parameters *p, we_error *err) {
    const float *weights = p->conv.weights;
    int64_t padded = padded_floats(p);
    if (padded) {
        float *room = we_arena_new(&program->arena, (size_t)padded * sizeof *room);
        if (!room)
            return we_error_no_memory(err);
        pad_filters(p, weights, room);
        weights = room;
    }
    we_gemm_right right = right_of(p, weights, padded > 0);
    return we_gemm_pack_constants(program, command->u.claim.kernel, &right, p->conv.group,
                                  padded ? padded : we_conv_weight_steps(&p->conv).group, &p->packed, err);
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    const we_conv *c = &p->conv;
    if (stores_narrow(p, command->u.claim.kernel)) {
        p->channels = c->channels + c->channels % 2;
        p->depth = c->w.kernel[1] * p->channels;
    }
    p->zeros = we_arena_new(&program->arena, (size_t)p->depth * sizeof *p->zeros);
    if (!p->zeros)
        return we_error_no_memory(err);
    memset(p->zeros, 0, (size_t)p->depth * sizeof *p->zeros);
    p->packed = p->zeros; /* where weights vary, so that products are cut for a B that is packed */
    return c->weights_vary ? WE_OK : pack_weights(program, command, p, err);
}

/* Rows are words, and what is summed are parts. */
static we_narrow narrows(const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    bool splits = command->u.claim.kernel->parts == 1;
    return (we_narrow){
        .in = splits && p->conv.channels % 2 == 0 && !p->plain, .residual = splits, .out = splits};
}

static bool is_narrow(const we_program *program, int32_t tensor) {
    return tensor >= 0 && program->tensors[tensor].dtype == WE_BF16;
}

/* What all groups and images share of their product. */
static we_gemm gemm_of(const we_program *program, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    return (we_gemm){.kernel = command->u.claim.kernel,
                     .m = p->chunk * p->conv.positions,
                     .n = p->conv.filters,
                     .runs = p->runs,
                     .depth = p->depth,
                     .packed = p->packed,
                     .narrow_rows =
                         is_narrow(program, command->in[0]) || stores_narrow(p, command->u.claim.kernel),
                     .narrow = is_narrow(program, command->out)};
}

/* Packed weights that vary, and those that they are packed from where channels are added. */
static int64_t varying_floats(const parameters *p, const we_matmul_row *kernel) {
    return p->conv.weights_vary ? p->conv.group * packed_floats(p, kernel) + padded_floats(p) : 0;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    we_gemm gemm = gemm_of(program, command);
    size_t one = we_gemm_scratch(&gemm, 1) * (size_t)threads, all = we_gemm_scratch(&gemm, threads);
    int64_t floats = p->chunk * stored_floats(p) + varying_floats(p, gemm.kernel);
    return (size_t)floats * sizeof(float) + (one > all ? one : all);
}

/* ---- Storing images ---- */

typedef struct images {
    const parameters *p;
    const float *x;        /* of the first image at work */
    float *stored;         /* likewise, where images are stored */
    const we_split *split; /* what rounds them on the way; NULL: they stay as they are */
    int64_t words;         /* of a position, and of a group of its channels: floats, or pairs of bfloat16 */
    int64_t group_words;
    int64_t channel; /* the first word of the group at work */
} images;

/* `count` positions of n channels, `plane` apart, from `step` to `to_step` apart. */
static inline void interleave(const float *from, int64_t plane, const int64_t n, int64_t count,
                              const int64_t step, const int64_t to_step, float *to) {
    for (int64_t j = 0; j < count; j++, to += to_step, from += step) {
        for (int64_t channel = 0; channel < n; channel++)
            to[channel] = from[channel * plane];
    }
}

/* `count` positions of the row, channels last, `padded` floats apart; what is between stays. */
static void read_positions(const images *k, int64_t item, int64_t row, int64_t column, int64_t count,
                           int64_t padded, float *to) {
    const we_window *w = &k->p->conv.w;
    int64_t n = k->p->conv.channels, plane = w->in[0] * w->in[1];
    const float *first = k->x + item * n * plane + row * w->in[1] + column;
    const float *last = k->x + ((item * w->in[0] + row) * w->in[1] + column) * n;
    if (!k->p->plain)
        interleave(last, 1, n, count, n, padded, to);
    else if (n == 3 && padded == 4) /* constants, so that it is unrolled: what images have */
        interleave(first, plane, 3, count, 1, 4, to);
    else if (n == 3 && padded == 3)
        interleave(first, plane, 3, count, 1, 3, to);
    else
        interleave(first, plane, n, count, 1, padded, to);
}

/* The same, rounded. */
static void round_positions(const images *k, int64_t item, int64_t row, int64_t count, float *to) {
    float some[STRETCH * FEW_CHANNELS] = {0};
    int64_t padded = k->p->channels;
    for (int64_t column = 0, taken; column < count; column += taken, to += taken * k->words) {
        taken = we_least(STRETCH, count - column);
        read_positions(k, item, row, column, taken, padded, some);
        k->split->split(1, taken * padded, some, taken * k->words, to, 0);
    }
}

/* One row of an image, channels last, into its place between the padding. */
static void store_row(const images *k, int64_t item, int64_t row, float *to) {
    const we_conv *c = &k->p->conv;
    const we_window *w = &c->w;
    int64_t n = k->words, count = we_least(w->in[1], k->p->columns - w->pad_begin[1]);
    float *inside = to + w->pad_begin[1] * n;
    count = count < 0 ? 0 : count;
    memset(to, 0, (size_t)(we_least(w->pad_begin[1], k->p->columns) * n) * sizeof *to);
    if (k->split)
        round_positions(k, item, row, count, inside);
    else if (k->p->plain)
        read_positions(k, item, row, 0, count, n, inside);
    else
        memcpy(inside, k->x + (item * w->in[0] + row) * w->in[1] * n, (size_t)(count * n) * sizeof *to);
    int64_t end = w->pad_begin[1] + count;
    if (end < k->p->columns)
        memset(to + end * n, 0, (size_t)((k->p->columns - end) * n) * sizeof *to);
}

static void store_rows(void *context, int64_t begin, int64_t end) {
    const images *k = context;
    const we_window *w = &k->p->conv.w;
    int64_t width = k->p->columns * k->words;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i % k->p->rows - w->pad_begin[0];
        if (row >= 0 && row < w->in[0])
            store_row(k, i / k->p->rows, row, k->stored + i * width);
        else
            memset(k->stored + i * width, 0, (size_t)width * sizeof(float));
    }
}

/* ---- Rows of A ---- */

static void stored_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                        const float **to) {
    const images *k = source;
    const we_window *w = &k->p->conv.w;
    int64_t width = k->p->columns * k->words, positions = k->p->conv.positions;
    int64_t item = row / positions, y = row % positions / w->out[1], x = row % positions % w->out[1];
    for (int32_t i = 0; i < count; i++) {
        const float *first =
            k->stored + (item * k->p->rows + y * w->stride[0]) * width + x * w->stride[1] * k->words;
        for (int64_t r = 0; r < runs; r++)
            to[r * count + i] = first + (run + r) * w->dilation[0] * width;
        if (++x == w->out[1]) {
            x = 0;
            if (++y == w->out[0])
                y = 0, item++;
        }
    }
}

static void image_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                       const float **to) {
    const images *k = source;
    const we_conv *c = &k->p->conv;
    const we_window *w = &c->w;
    int64_t item = row / c->positions, position = row % c->positions;
    int64_t out_y = position / w->out[1], out_x = position % w->out[1];
    for (int32_t i = 0; i < count; i++) {
        int64_t top = out_y * w->stride[0] - w->pad_begin[0], left = out_x * w->stride[1] - w->pad_begin[1];
        const float *image = k->x + item * w->in[0] * w->in[1] * k->words + k->channel;
        int64_t tap_y = run / w->kernel[1], tap_x = run % w->kernel[1];
        for (int64_t r = 0; r < runs; r++) {
            int64_t y = top + tap_y * w->dilation[0], x = left + tap_x * w->dilation[1];
            bool inside = y >= 0 && y < w->in[0] && x >= 0 && x < w->in[1];
            to[r * count + i] = inside ? image + (y * w->in[1] + x) * k->words : k->p->zeros;
            if (++tap_x == w->kernel[1])
                tap_x = 0, tap_y++;
        }
        if (++out_x == w->out[1]) {
            out_x = 0;
            if (++out_y == w->out[0])
                out_y = 0, item++;
        }
    }
}

/* ---- Running ---- */

/* Behind the stored images. */
static float *gemm_scratch(const we_run *run, const parameters *p) {
    return (float *)run->scratch + p->chunk * stored_floats(p);
}

/* A group's product, on the pool's threads or on this one alone. */
static void run_group(we_pool *pool, const we_gemm *gemm, const images *shared, int64_t g, float *scratch) {
    const parameters *p = shared->p;
    const we_conv *c = &p->conv;
    we_gemm own = *gemm;
    images k = *shared;
    k.channel = g * k.group_words;
    own.source = &k;
    own.a = k.x + k.channel;
    own.packed += g * packed_floats(p, own.kernel);
    own.c += own.c ? g * c->filters : 0;
    own.narrow_c += own.narrow_c ? g * c->filters : 0;
    own.column_bias = c->bias ? c->bias + g * c->filters : NULL;
    own.residual += own.residual ? g * c->filters : 0;
    own.narrow_residual += own.narrow_residual ? g * c->filters : 0;
    we_gemm_run(pool, &own, scratch);
}

typedef struct groups {
    const we_run *run;
    const we_gemm *gemm;
    const images *images;
} groups;

static void run_some_groups(void *context, int64_t begin, int64_t end) {
    const groups *j = context;
    int64_t each = (int64_t)(we_gemm_scratch(j->gemm, 1) / sizeof(float));
    for (int64_t g = begin; g < end; g++)
        run_group(NULL, j->gemm, j->images, g,
                  gemm_scratch(j->run, j->images->p) + we_run_worker(j->run) * each);
}

/* Enough groups are shared out, fewer one after the other. */
static void run_groups(const we_run *run, const we_gemm *gemm, const images *k) {
    const we_conv *c = &k->p->conv;
    if (c->group < GROUPS_PER_THREAD * we_pool_threads(run->pool)) {
        for (int64_t g = 0; g < c->group; g++)
            run_group(run->pool, gemm, k, g, gemm_scratch(run, k->p));
        return;
    }
    groups j = {run, gemm, k};
    int64_t steps = gemm->m * c->filters * c->channels * c->w.taps;
    we_parallel_for(run->pool, c->group, 1 + 200000 / (steps + 1), run_some_groups, &j);
}

/* Where the result goes, and what is added to it. */
static void set_result(const we_run *run, const we_command *command, int64_t out, we_gemm *gemm) {
    void *result = we_conv_out(run, command, out);
    if (gemm->narrow)
        gemm->narrow_c = result;
    else
        gemm->c = result;
    if (command->in[1] < 0)
        return;
    const void *residual = we_conv_at(run, command->in[1], out);
    if (is_narrow(run->program, command->in[1]))
        gemm->narrow_residual = residual;
    else
        gemm->residual = residual;
}

static void run_images(const we_run *run, const we_command *command, int64_t begin, int64_t items) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    int64_t in = we_conv_channels_in(c) * c->w.in[0] * c->w.in[1], width = we_conv_pitch(c, command);
    int64_t out = begin * c->positions * width;
    we_gemm gemm = gemm_of(run->program, command);
    bool rounds = gemm.narrow_rows && !is_narrow(run->program, command->in[0]);
    int64_t per_word = gemm.narrow_rows ? 2 : 1;
    images k = {.p = p,
                .x = we_conv_at(run, command->in[0], begin * in),
                .stored = run->scratch,
                .split = rounds ? &gemm.kernel->split : NULL,
                .words = c->group * p->channels / per_word,
                .group_words = c->channels / per_word};
    if (p->stored)
        we_parallel_for(run->pool, items * p->rows, 1 + 16384 / (p->columns * c->channels), store_rows, &k);
    gemm.m = items * c->positions;
    gemm.rows = p->stored ? stored_rows : is_pointwise(c) ? NULL : image_rows;
    gemm.a_row = k.words;
    gemm.ldc = width;
    set_result(run, command, out, &gemm);
    gemm.low = command->u.claim.relu ? 0 : -INFINITY;
    gemm.high = command->u.claim.ceiling > 0 ? command->u.claim.ceiling : INFINITY;
    run_groups(run, &gemm, &k);
}

static void run_packed(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    int64_t each = p->stored ? p->chunk : p->conv.items;
    for (int64_t begin = 0; begin < p->conv.items; begin += each)
        run_images(run, command, begin, we_least(each, p->conv.items - begin));
}

static void pack_varying(we_pool *pool, const parameters *p, const we_matmul_row *kernel,
                         const float *weights, float *to) {
    const int64_t each = packed_floats(p, kernel), padded = padded_floats(p);
    if (padded) {
        float *room = to + p->conv.group * each;
        pad_filters(p, weights, room);
        weights = room;
    }
    we_gemm_right right = right_of(p, weights, padded > 0);
    for (int64_t g = 0; g < p->conv.group; g++, right.b += we_conv_weight_steps(&p->conv).group)
        we_gemm_pack(pool, kernel, &right, to + g * each);
}

/* With what varies in the place of what was prepared. */
static void run_claim(const we_run *run, const we_command *command) {
    parameters own = *(const parameters *)command->u.claim.parameters;
    const we_matmul_row *kernel = command->u.claim.kernel;
    we_run rest = *run;
    we_command packed = *command;
    if (own.conv.weights_vary) {
        pack_varying(run->pool, &own, kernel, we_claim_in(run, command, 1), run->scratch);
        own.packed = run->scratch;
        rest.scratch = (float *)run->scratch + varying_floats(&own, kernel);
    }
    if (own.conv.bias_varies)
        own.conv.bias = we_claim_in(run, command, 2);
    packed.u.claim.parameters = &own;
    run_packed(&rest, &packed);
}

const we_claim_methods we_claim_conv = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .product = product,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .fuses = true,
    .splits = true,
    .reads_varying = 1 << 1 | 1 << 2,
    .differentiable = true,
    .channels_last = true,
    .places = true,
    .reads_plain = reads_plain,
    .narrows = narrows,
};
