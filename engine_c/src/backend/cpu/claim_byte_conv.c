/* Convolutions and matrix products of bytes as products whose rows lie in the image, like claim_conv.c. A
 * product of matrices is a convolution of images one position wide with a filter of one tap. Where a channel
 * count is no multiple of four, or small, images are stored with their padding around them and bytes added to
 * their channels, so that runs are whole quads and not too short; such an image may come channels first.
 *
 * Around the image lies its zero point, so the sum over a filter's weights, times that, is what all outputs
 * have too much of: sums start from the bias less it. */
#include <math.h>
#include <string.h>

#include "backend/cpu/byte_gemm.h"
#include "backend/cpu/bytes.h"
#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"
#include "base/error.h"

enum {
    QUAD = 4,
    FEW_CHANNELS = 32,  /* below which images are stored */
    PLAIN_CHANNELS = 4, /* up to which they may be taken channels first */
    EDGE = 64,          /* bytes between parts of scratch that different threads write */
};

typedef struct parameters {
    we_conv conv;
    we_dtype in_dtype;
    int32_t zero_input, zero; /* where the zero point of the image is read while running, -1: it is `zero` */
    bool sums;                /* results are int32 */
    const we_tensor *weights; /* these and the next: copies in the arena, NULL where absent */
    const we_tensor *weight_zero, *weight_scale, *bias;
    int64_t filter, channel, tap; /* elements of weights from one to the next */
    float in_scale, out_scale;
    we_byte_range range;
    bool stored, plain;
    int64_t rows, columns, channels; /* of a stored image */
    int64_t runs, depth;             /* of a row of the product */
    /* Made at preparation: of all groups, each in whole panels. */
    const int8_t *packed;
    int32_t *start, *column_sums;
    float *factor, *shift;
    int64_t *offsets; /* of taps from the first */
} parameters;

/* ---- Reading the call ---- */

static const we_tensor *keep(const we_tensor *x, we_arena *arena, bool *known) {
    we_tensor *copy = x ? we_arena_new(arena, sizeof *copy) : NULL;
    *known = *known && (!x || (copy && x->kind == WE_TENSOR_CONST));
    if (copy)
        *copy = *x;
    return copy;
}

static int64_t filters_of(const parameters *p) {
    return p->conv.group * p->conv.filters;
}

/* Does the tensor have one element, or one per filter? */
static bool is_per_filter(const parameters *p, const we_tensor *x) {
    return !x || x->count == 1 || x->count == filters_of(p);
}

/* The zero of a filter's weights as they are packed: int8. */
static int32_t weight_zero(const parameters *p, int64_t filter) {
    int32_t moved = p->weights->dtype == WE_U8 ? INT8_MIN : 0;
    return moved + (p->weight_zero
                        ? (int32_t)we_tensor_integer(p->weight_zero, p->weight_zero->count > 1 ? filter : 0)
                        : 0);
}

static bool has_zeros(const parameters *p) {
    bool any = false;
    for (int64_t f = 0; f < filters_of(p) && !any; f++)
        any = weight_zero(p, f) != 0;
    return any;
}

/* Do weights less their zeros fit int8? */
static bool fit(const parameters *p) {
    const uint8_t *bytes = p->weights->data, flip = p->weights->dtype == WE_U8 ? WE_FLIP : 0;
    if (!has_zeros(p))
        return true;
    for (int64_t f = 0; f < filters_of(p); f++) {
        int32_t zero = weight_zero(p, f);
        for (int64_t c = 0; c < p->conv.channels; c++) {
            for (int64_t t = 0; t < p->conv.w.taps; t++) {
                int32_t w = (int8_t)(bytes[f * p->filter + c * p->channel + t * p->tap] ^ flip) - zero;
                if (w < INT8_MIN || w > INT8_MAX)
                    return false;
            }
        }
    }
    return true;
}

static bool is_pointwise(const we_conv *c) {
    const we_window *w = &c->w;
    return w->taps == 1 && w->stride[0] == 1 && w->stride[1] == 1 && w->out[0] == w->in[0] &&
           w->out[1] == w->in[1];
}

static int64_t reach(const we_window *w, int32_t i) {
    return (w->out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
}

static bool shape(parameters *p) {
    const we_conv *c = &p->conv;
    const we_window *w = &c->w;
    bool odd = c->channels % QUAD != 0, few = c->channels < FEW_CHANNELS && !is_pointwise(c);
    p->stored = c->group == 1 && (odd || few) && w->dilation[1] == 1;
    p->plain = p->stored && w->taps > 1 && c->channels <= PLAIN_CHANNELS;
    p->rows = reach(w, 0);
    p->columns = reach(w, 1);
    p->channels = we_panels(c->channels, QUAD) * QUAD;
    p->runs = p->stored ? w->kernel[0] : w->taps;
    p->depth = p->stored ? w->kernel[1] * p->channels : c->channels;
    return c->channels > 0 && c->filters > 0 && (p->stored || !odd);
}

/* Where the node's inputs are: those of ConvInteger and MatMulInteger, or of QLinearConv and QLinearMatMul.
 */
typedef struct places {
    int32_t weights, zero, weight_zero;
} places;

static bool is_integer(int32_t op) {
    return op == WE_OP_ConvInteger || op == WE_OP_MatMulInteger;
}

static places places_of(int32_t op) {
    return is_integer(op) ? (places){1, 2, 3} : (places){3, 2, 5};
}

static bool read_operands(const we_call *call, we_arena *arena, parameters *p) {
    places at = places_of(call->node->op);
    const we_tensor *zero = we_call_input(call, at.zero);
    bool known =
        we_byte_input(call, 0) && we_byte_input(call, at.weights) && we_byte_input(call, at.weight_zero);
    p->in_dtype = call->in[0]->dtype;
    p->sums = is_integer(call->node->op);
    p->zero_input = p->sums && zero && zero->kind != WE_TENSOR_CONST && zero->count == 1 ? at.zero : -1;
    p->weights = keep(call->in[at.weights], arena, &known);
    p->weight_zero = keep(we_call_input(call, at.weight_zero), arena, &known);
    return known && (p->zero_input >= 0 || we_byte_zero(call, at.zero, &p->zero));
}

/* What makes bytes of sums. */
static bool read_result(const we_call *call, we_arena *arena, parameters *p) {
    bool known = true;
    if (p->sums)
        return true;
    p->weight_scale = keep(call->in[4], arena, &known);
    p->bias = keep(we_call_input(call, 8), arena, &known);
    return known && we_byte_number(call, 1, &p->in_scale) && we_byte_number(call, 6, &p->out_scale) &&
           we_byte_read_range(call, 6, 7, &p->range) && p->weight_scale->dtype == WE_F32 &&
           is_per_filter(p, p->weight_scale);
}

static bool accept_as(const we_call *call, we_arena *arena, parameters *p) {
    return read_operands(call, arena, p) && read_result(call, arena, p) && is_per_filter(p, p->weight_zero) &&
           shape(p) && fit(p);
}

static bool accept_conv(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *weights = call->in[places_of(call->node->op).weights];
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || weights->count == 0)
        return false;
    int64_t group = we_node_int(call->node, "group", 1), filters = weights->dims[0] / group;
    int64_t channels = weights->dims[1];
    if ((channels == 1 && filters == 1 && group > 1) ||
        !we_conv_read_window(call, weights->dims + 2, &p->conv))
        return false;
    p->conv.group = group;
    p->conv.filters = filters;
    p->conv.channels = channels;
    p->tap = 1;
    p->channel = p->conv.w.taps;
    p->filter = channels * p->conv.w.taps;
    *out = p;
    return accept_as(call, arena, p);
}

/* One matrix for all rows of the other. */
static bool accept_matmul(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *a = call->in[0], *b = call->in[places_of(call->node->op).weights];
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || b->rank != 2 || a->rank < 1 || a->count == 0 || b->count == 0)
        return false;
    bool turned = we_node_int(call->node, "transB", 0) != 0;
    int64_t k = a->dims[a->rank - 1], m = a->count / k;
    we_window w = {.rank = 2,
                   .kernel = {1, 1},
                   .stride = {1, 1},
                   .dilation = {1, 1},
                   .in = {m, 1},
                   .out = {m, 1},
                   .taps = 1};
    p->conv =
        (we_conv){.items = 1, .group = 1, .channels = k, .filters = b->dims[!turned], .w = w, .positions = m};
    p->channel = turned ? 1 : b->dims[1];
    p->filter = turned ? b->dims[1] : 1;
    *out = p;
    return accept_as(call, arena, p);
}

/* ---- What it costs ---- */

static int64_t stored_bytes(const parameters *p) {
    return p->stored ? p->rows * p->columns * p->channels : 0; /* of one image */
}

/* Storing the images and making bytes of sums. */
static double cost(const void *given) {
    const parameters *p = given;
    double results = (double)(p->conv.items * p->conv.positions * filters_of(p));
    return (double)(p->conv.items * stored_bytes(p)) * (p->plain ? 2 : 0.5) + results;
}

static we_byte_work byte_work(const void *given) {
    const parameters *p = given;
    double weights = (double)filters_of(p) * (double)(p->runs * p->depth);
    return (we_byte_work){(double)(p->conv.items * p->conv.positions) * weights, weights};
}

static bool reads_plain(const void *given) {
    return ((const parameters *)given)->plain;
}

/* ---- Preparing ---- */

static we_byte_right right_of(const parameters *p, int64_t group) {
    const we_conv *c = &p->conv;
    return (we_byte_right){.b = (const uint8_t *)p->weights->data + group * c->filters * p->filter,
                           .run = (p->stored ? c->w.kernel[1] : 1) * p->tap,
                           .row = p->channel,
                           .column = p->filter,
                           .n = c->filters,
                           .runs = p->runs,
                           .depth = p->depth,
                           .given = c->channels,
                           .pieces = p->stored ? c->w.kernel[1] : 1,
                           .piece = p->tap,
                           .flip = p->weights->dtype == WE_U8 ? WE_FLIP : 0};
}

typedef struct packing {
    const we_byte_matmul *kernel;
    const parameters *p;
    const int32_t *zeros; /* per filter, or NULL */
} packing;

static int64_t group_bytes(const we_byte_matmul *kernel, const parameters *p) {
    we_byte_right right = right_of(p, 0);
    return we_byte_packed(kernel, &right);
}

static void pack(we_pool *pool, const void *context, void *to) {
    const packing *k = context;
    (void)pool;
    for (int64_t g = 0; g < k->p->conv.group; g++) {
        we_byte_right right = right_of(k->p, g);
        right.zero = k->zeros ? k->zeros + g * k->p->conv.filters : NULL;
        we_byte_pack(k->kernel, &right, (int8_t *)to + g * group_bytes(k->kernel, k->p));
    }
}

/* Weights without zeros are shared with other programs of the model. */
static we_status pack_weights(we_program *program, const we_byte_matmul *kernel, parameters *p,
                              we_error *err) {
    packing k = {kernel, p, NULL};
    we_byte_right r = right_of(p, 0);
    size_t bytes = (size_t)(p->conv.group * group_bytes(kernel, p));
    const void *packed = NULL;
    if (!has_zeros(p)) {
        we_pack_key key = {.source = r.b,
                           .source_bytes = (size_t)p->weights->count,
                           .form = kernel,
                           .parameters = {r.run, r.row, r.column, r.n, r.runs, r.depth, r.given, r.pieces,
                                          p->conv.group, r.piece}};
        WE_TRY(we_program_pack(program, &key, bytes, pack, &k, &packed, err));
        p->packed = packed;
        return WE_OK;
    }
    int32_t *zeros = we_arena_new(&program->arena, (size_t)filters_of(p) * sizeof *zeros);
    int8_t *own = we_arena_new(&program->arena, bytes);
    if (!zeros || !own)
        return we_error_no_memory(err);
    for (int64_t f = 0; f < filters_of(p); f++)
        zeros[f] = weight_zero(p, f);
    k.zeros = zeros;
    pack(NULL, &k, own);
    p->packed = own;
    return WE_OK;
}

/* The zero point of the image in the eyes of the kernel, and what it changes bytes by. */
static int32_t moved_zero(const parameters *p, const we_byte_matmul *kernel, int32_t zero) {
    bool is_signed = p->in_dtype == WE_I8;
    return is_signed == kernel->signed_rows ? zero : zero + (is_signed ? WE_FLIP : -WE_FLIP);
}

static uint8_t flip_of(const parameters *p, const we_byte_matmul *kernel) {
    return (p->in_dtype == WE_I8) == kernel->signed_rows ? 0 : WE_FLIP;
}

static void set_column(const parameters *p, int64_t filter, int64_t at) {
    p->start[at] = p->bias && p->bias->dtype == WE_I32 ? ((const int32_t *)p->bias->data)[filter] : 0;
    if (p->sums)
        return;
    const float *scales = p->weight_scale->data;
    p->factor[at] = p->in_scale * scales[p->weight_scale->count > 1 ? filter : 0] / p->out_scale;
    if (p->shift)
        p->shift[at] = ((const float *)p->bias->data)[filter] / p->out_scale;
}

/* Per column: what sums start from, but for the zero point, and what they become. */
static void set_columns(const parameters *p, const we_byte_matmul *kernel) {
    int64_t each = group_bytes(kernel, p), columns = we_byte_columns(kernel, p->conv.filters);
    for (int64_t g = 0; g < p->conv.group; g++) {
        const int8_t *sums = p->packed + (g + 1) * each - columns * (int64_t)sizeof(int32_t);
        memcpy(p->column_sums + g * columns, sums, (size_t)columns * sizeof *p->column_sums);
        for (int64_t f = 0; f < p->conv.filters; f++)
            set_column(p, g * p->conv.filters + f, g * columns + f);
    }
}

static void take_zero(const parameters *p, const we_byte_matmul *kernel, int32_t zero, int32_t *start) {
    int64_t count = p->conv.group * we_byte_columns(kernel, p->conv.filters);
    uint32_t moved = (uint32_t)moved_zero(p, kernel, zero);
    for (int64_t i = 0; i < count; i++)
        start[i] = (int32_t)((uint32_t)p->start[i] - moved * (uint32_t)p->column_sums[i]);
}

static void set_offsets(const parameters *p) {
    const we_window *w = &p->conv.w;
    int64_t pixel = we_conv_channels_in(&p->conv);
    for (int64_t t = 0; t < w->taps; t++)
        p->offsets[t] =
            (t / w->kernel[1] * w->dilation[0] * w->in[1] + t % w->kernel[1] * w->dilation[1]) * pixel;
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    const we_kernels *kernels;
    WE_TRY(we_kernels_get(&kernels, err));
    const we_byte_matmul *kernel = &kernels->byte_matmul;
    WE_TRY(pack_weights(program, kernel, p, err));
    size_t count = (size_t)(p->conv.group * we_byte_columns(kernel, p->conv.filters));
    bool shifts = p->bias && p->bias->dtype == WE_F32;
    p->start = we_arena_new(&program->arena, count * sizeof *p->start);
    p->column_sums = we_arena_new(&program->arena, count * sizeof *p->column_sums);
    p->factor = we_arena_new(&program->arena, count * sizeof *p->factor);
    p->shift = shifts ? we_arena_new(&program->arena, count * sizeof *p->shift) : NULL;
    p->offsets = we_arena_new(&program->arena, (size_t)p->conv.w.taps * sizeof *p->offsets);
    if (!p->start || !p->column_sums || !p->factor || (shifts && !p->shift) || !p->offsets)
        return we_error_no_memory(err);
    set_columns(p, kernel);
    set_offsets(p);
    if (p->zero_input < 0)
        take_zero(p, kernel, p->zero, p->start);
    return WE_OK;
}

/* ---- Running ---- */

typedef struct images {
    const parameters *p;
    const uint8_t *x; /* of the first image at work, from its group's first channel on */
    const uint8_t *zeros;
    uint8_t *stored;
    int32_t zero;
} images;

static we_byte_gemm gemm_of(const parameters *p, const we_byte_matmul *kernel) {
    int64_t items = p->stored ? 1 : p->conv.items;
    return (we_byte_gemm){.kernel = kernel,
                          .m = items * p->conv.positions,
                          .n = p->conv.filters,
                          .runs = p->runs,
                          .depth = p->depth,
                          .flip = flip_of(p, kernel)};
}

/* Bytes of the parts of scratch before the product's own: a run of zeros, starts, a stored image. */
static int64_t zeros_bytes(const parameters *p) {
    return we_panels(p->depth, EDGE) * EDGE;
}

static int64_t start_bytes(const parameters *p, const we_byte_matmul *kernel) {
    int64_t bytes = p->conv.group * we_byte_columns(kernel, p->conv.filters) * (int64_t)sizeof(int32_t);
    return p->zero_input < 0 ? 0 : we_panels(bytes, EDGE) * EDGE;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    const we_kernels *kernels;
    (void)program;
    we_kernels_get(&kernels, NULL);
    we_byte_gemm gemm = gemm_of(p, &kernels->byte_matmul);
    return (size_t)(zeros_bytes(p) + start_bytes(p, gemm.kernel) + we_panels(stored_bytes(p), EDGE) * EDGE) +
           we_byte_gemm_scratch(&gemm, threads);
}

/* `count` positions of a row of the image, into places of `channels` bytes. */
static void read_positions(const images *k, int64_t row, int64_t count, uint8_t *to) {
    const we_conv *c = &k->p->conv;
    int64_t n = c->channels, padded = k->p->channels, plane = c->w.in[0] * c->w.in[1];
    const uint8_t *first = k->x + row * c->w.in[1];
    if (k->p->plain && n == 3) { /* what images have: as words, whose first byte is the lowest */
        uint32_t *words = (uint32_t *)(void *)to; /* aligned, as rows of scratch are whole quads */
        for (int64_t i = 0; i < count; i++)
            words[i] =
                (uint32_t)first[i] | (uint32_t)first[plane + i] << 8 | (uint32_t)first[2 * plane + i] << 16;
        return;
    }
    for (int64_t i = 0; i < count; i++, to += padded) {
        for (int64_t j = 0; j < n; j++)
            to[j] = k->p->plain ? first[j * plane + i] : k->x[(row * c->w.in[1] + i) * n + j];
        memset(to + n, 0, (size_t)(padded - n));
    }
}

static void store_row(const images *k, int64_t row, uint8_t *to) {
    const we_window *w = &k->p->conv.w;
    int64_t n = k->p->channels, columns = k->p->columns;
    int64_t before = we_least(w->pad_begin[1], columns), count = we_least(w->in[1], columns - before);
    bool inside = row >= 0 && row < w->in[0];
    before = inside ? before : columns;
    count = inside ? count : 0;
    memset(to, k->zero, (size_t)(before * n));
    if (k->p->plain || n != k->p->conv.channels)
        read_positions(k, row, count, to + before * n);
    else if (count)
        memcpy(to + before * n, k->x + row * w->in[1] * n, (size_t)(count * n));
    memset(to + (before + count) * n, k->zero, (size_t)((columns - before - count) * n));
}

static void store_rows(void *context, int64_t begin, int64_t end) {
    const images *k = context;
    for (int64_t i = begin; i < end; i++)
        store_row(k, i - k->p->conv.w.pad_begin[0], k->stored + i * k->p->columns * k->p->channels);
}

static void stored_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                        const uint8_t **to) {
    const images *k = source;
    const we_window *w = &k->p->conv.w;
    int64_t n = k->p->channels, width = k->p->columns * n, y = row / w->out[1], x = row % w->out[1];
    for (int32_t i = 0; i < count; i++) {
        const uint8_t *first = k->stored + y * w->stride[0] * width + x * w->stride[1] * n;
        for (int64_t r = 0; r < runs; r++)
            to[r * count + i] = first + (run + r) * w->dilation[0] * width;
        if (++x == w->out[1])
            x = 0, y++;
    }
}

/* Of a window that reaches over an edge: each tap by itself. */
static void edge_row(const images *k, const uint8_t *image, int64_t top, int64_t left, int32_t count,
                     const uint8_t **to) {
    const we_window *w = &k->p->conv.w;
    int64_t pixel = we_conv_channels_in(&k->p->conv);
    for (int64_t t = 0; t < w->taps; t++) {
        int64_t y = top + t / w->kernel[1] * w->dilation[0], x = left + t % w->kernel[1] * w->dilation[1];
        bool inside = y >= 0 && y < w->in[0] && x >= 0 && x < w->in[1];
        to[t * count] = inside ? image + (y * w->in[1] + x) * pixel : k->zeros;
    }
}

static void image_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                       const uint8_t **to) {
    const images *k = source;
    const we_conv *c = &k->p->conv;
    const we_window *w = &c->w;
    int64_t pixel = we_conv_channels_in(c), item = row / c->positions, position = row % c->positions;
    int64_t y = position / w->out[1], x = position % w->out[1];
    int64_t down = (w->kernel[0] - 1) * w->dilation[0], across = (w->kernel[1] - 1) * w->dilation[1];
    (void)run; /* always all of them */
    for (int32_t i = 0; i < count; i++) {
        int64_t top = y * w->stride[0] - w->pad_begin[0], left = x * w->stride[1] - w->pad_begin[1];
        const uint8_t *image = k->x + item * w->in[0] * w->in[1] * pixel;
        if (top >= 0 && left >= 0 && top + down < w->in[0] && left + across < w->in[1]) {
            const uint8_t *first = image + (top * w->in[1] + left) * pixel;
            for (int64_t r = 0; r < runs; r++)
                to[r * count + i] = first + k->p->offsets[r];
        } else {
            edge_row(k, image, top, left, count, to + i);
        }
        if (++x == w->out[1]) {
            x = 0;
            if (++y == w->out[0])
                y = 0, item++;
        }
    }
}

static void run_images(const we_run *run, const we_command *command, we_byte_gemm *gemm, images *k,
                       int64_t item, void *scratch) {
    const parameters *p = k->p;
    const we_conv *c = &p->conv;
    int64_t pitch = we_conv_pitch(c, command), out = command->u.claim.offset + item * c->positions * pitch;
    int64_t columns = we_byte_columns(gemm->kernel, c->filters);
    const uint8_t *x = we_run_in(run, command, 0);
    k->x = x + item * c->w.in[0] * c->w.in[1] * we_conv_channels_in(c);
    gemm->rows = p->stored ? stored_rows : is_pointwise(c) ? NULL : image_rows;
    gemm->source = k;
    gemm->a_row = we_conv_channels_in(c);
    gemm->ldc = pitch;
    if (p->stored)
        we_parallel_for(run->pool, p->rows, 1 + 65536 / (p->columns * p->channels), store_rows, k);
    const int32_t *start = gemm->start;
    for (int64_t g = 0; g < c->group; g++, k->x += c->channels) {
        gemm->a = k->x;
        gemm->packed = p->packed + g * group_bytes(gemm->kernel, p);
        gemm->start = start + g * columns;
        gemm->how =
            (we_requantise){p->factor + g * columns, p->shift ? p->shift + g * columns : NULL, p->range};
        gemm->sums = p->sums ? (int32_t *)we_run_out(run, command) + out + g * c->filters : NULL;
        gemm->c = p->sums ? NULL : (uint8_t *)we_run_out(run, command) + out + g * c->filters;
        gemm->then = command->u.claim.then;
        gemm->added = gemm->then ? (const uint8_t *)we_run_in(run, command, 1) + out + g * c->filters : NULL;
        we_byte_gemm_run(run->pool, gemm, scratch);
    }
    gemm->start = start;
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    we_byte_gemm gemm = gemm_of(p, &run->kernels->byte_matmul);
    uint8_t *scratch = run->scratch, *zeros = scratch;
    images k = {.p = p, .zeros = zeros, .zero = p->zero};
    scratch += zeros_bytes(p);
    gemm.start = p->start;
    if (p->zero_input >= 0) {
        const uint8_t *zero = we_claim_in(run, command, p->zero_input);
        k.zero = p->in_dtype == WE_I8 ? (int8_t)*zero : *zero;
        take_zero(p, gemm.kernel, k.zero, (int32_t *)scratch);
        gemm.start = (int32_t *)scratch;
        scratch += start_bytes(p, gemm.kernel);
    }
    k.stored = scratch;
    scratch += we_panels(stored_bytes(p), EDGE) * EDGE;
    memset(zeros, k.zero, (size_t)p->depth);
    for (int64_t item = 0; item < p->conv.items; item += p->stored ? 1 : p->conv.items)
        run_images(run, command, &gemm, &k, item, scratch);
}

const we_claim_methods we_claim_byte_conv = {
    .accept = accept_conv,
    .cost = cost,
    .byte_work = byte_work,
    .run = run_claim,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .reads = 1u << 2,
    .channels_last = true,
    .reads_plain = reads_plain,
    .takes_byte_sum = true,
};

const we_claim_methods we_claim_byte_matmul = {
    .accept = accept_matmul,
    .cost = cost,
    .byte_work = byte_work,
    .run = run_claim,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .reads = 1u << 2,
    .takes_byte_sum = true,
};
