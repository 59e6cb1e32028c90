/* Sums over windows: separable and full kernels, boxes. Floats: each thread keeps a ring of rows, a source
 * row is widened by its border and weighed across once, and every result row weighs the ring down. Bytes with
 * whole weights: every result row weighs the source's rows down where they lie, and then the one row of sums
 * across. */
#include "imaging/imaging.h"

enum { MOST_SIDE = 4096 };

typedef struct filter filter;
struct filter {
    const we_imaging_call *c;
    const we_image *in, *out;
    int32_t width, height; /* of the kernel */
    int64_t left, up;      /* its anchor */
    int border;
    const double *row, *column; /* separable */
    const double *full;         /* or all of it, [height][width]; NULL where separable */
    double scale, delta;        /* of the sum */
    size_t element, held;       /* bytes: of an element of a widened row, of one in the ring */
    /* A widened row to a row of the ring; NULL: as it is. */
    void (*across)(const filter *f, int64_t n, const void *widened, void *kept, const void **taps);
    /* Rows of the ring to a row of the result. `wide` has room for n elements of 8 bytes. */
    void (*down)(const filter *f, int64_t n, const void *const *rows, void *wide, void *y, const void **taps);
    /* Weights as the kernels want them. */
    void *row_weights, *column_weights;
    int32_t taps; /* of a full kernel: those that are not 0 */
    int32_t *tap_row, *tap_column;
    /* Bytes with whole weights: how often the weights across are not 0, and where; likewise down. */
    int32_t across_taps, down_taps, *across_at, *down_at;
    enum sums_kind { SIGNED_16, UNSIGNED_16, UNSIGNED_32 } kind; /* what holds the sums */
    int32_t shift;                                               /* of UNSIGNED_16 */
};

/* ---- Steps of the ring ---- */

static int64_t kept_count(const filter *f) { /* elements of a row in the ring */
    int64_t extra = f->across ? 0 : f->width - 1;
    return (f->out->width + extra) * f->in->channels;
}

static void load(const filter *f, int64_t n, const void *x, void *y) {
    if (f->element == we_image_size(f->in)) {
        memcpy(y, x, (size_t)n * f->element);
    } else if (f->element == sizeof(double)) {
        we_pixels_to_f64(f->in->dtype, n, x, y);
    } else if (f->in->dtype == WE_U8) {
        f->c->kernels->widen_u8_f32(n, x, y);
    } else {
        WE_FOR_PIXELS(f->in->dtype, {
            for (int64_t i = 0; i < n; i++)
                ((float *)y)[i] = (float)((const T *)x)[i];
        })
    }
}

static void extend(const filter *f, size_t element, char *row) {
    static const double NOTHING = 0;
    we_image_extend(row, f->in->width, f->in->channels, element, f->left, f->width - 1 - f->left, f->border,
                    &NOTHING);
}

/* Source row `y`, which may lie outside, as elements of the filter with its border on both sides. */
static void widen(const filter *f, int64_t y, char *to) {
    size_t pixel = (size_t)f->in->channels * f->element;
    y = we_border_at(y, f->in->height, f->border);
    if (y < 0) {
        memset(to, 0, (size_t)(f->in->width + f->width - 1) * pixel);
        return;
    }
    load(f, f->in->width * f->in->channels, we_image_row(f->in, y), to + (size_t)f->left * pixel);
    extend(f, f->element, to);
}

static size_t rounded_up(size_t size) {
    return (size + 63) / 64 * 64;
}

static bool filter_rows(void *context, int64_t begin, int64_t end) {
    const filter *f = context;
    int64_t n = f->out->width * f->in->channels;
    size_t widened = rounded_up((size_t)((f->in->width + f->width) * f->in->channels) * f->element);
    size_t kept = rounded_up((size_t)kept_count(f) * f->held), wide = rounded_up((size_t)n * sizeof(double));
    size_t pointers = (size_t)(f->height + (f->full ? f->taps : f->width > f->height ? f->width : f->height));
    char *scratch =
        we_memory_new_dirty(pointers * sizeof(void *) + widened + wide + kept * (size_t)f->height + 4 * 64);
    if (!scratch)
        return false;
    char *source = scratch, *sums = source + widened, *ring = sums + wide;
    const void **rows = (const void **)(void *)(ring + kept * (size_t)f->height), **taps = rows + f->height;
    for (int64_t next = begin - f->up, y = begin; y < end; y++) {
        for (; next < y - f->up + f->height; next++) {
            char *slot = ring + kept * (size_t)((next + f->up) % f->height);
            widen(f, next, f->across ? source : slot);
            if (f->across)
                f->across(f, n, source, slot, taps);
        }
        for (int32_t t = 0; t < f->height; t++)
            rows[t] = ring + kept * (size_t)((y + t) % f->height);
        f->down(f, n, rows, sums, we_image_row(f->out, y), taps);
    }
    we_memory_free(scratch);
    return true;
}

static const void **taps_across(const filter *f, const void *row, const void **taps) {
    for (int32_t t = 0; t < f->width; t++)
        taps[t] = (const char *)row + (size_t)(t * f->in->channels) * f->element;
    return taps;
}

static const void **taps_full(const filter *f, const void *const *rows, const void **taps) {
    for (int32_t t = 0; t < f->taps; t++)
        taps[t] =
            (const char *)rows[f->tap_row[t]] + (size_t)(f->tap_column[t] * f->in->channels) * f->element;
    return taps;
}

/* ---- Bytes with whole weights ---- */

/* Sums that 16 signed bits hold, as the result wants them. `wide` has room for them. */
static void store_i16(const filter *f, int64_t n, int16_t *sums, void *y) {
    int32_t delta = (int32_t)f->delta;
    if (f->out->dtype == WE_U8) {
        f->c->kernels->keep_i16_u8(n, sums, delta, y);
    } else if (f->out->dtype == WE_F32) {
        for (int64_t i = 0; i < n; i++)
            ((float *)y)[i] = (float)(sums[i] + delta);
    } else {
        for (int64_t i = 0; delta && i < n; i++) {
            int32_t sum = sums[i] + delta;
            sums[i] = (int16_t)(sum < INT16_MIN ? INT16_MIN : sum > INT16_MAX ? INT16_MAX : sum);
        }
    }
}

static void sums_down(const filter *f, int64_t n, const uint8_t *const *rows, void *sums) {
    if (f->kind == SIGNED_16)
        f->c->kernels->taps_u8_i16(n, f->down_taps, rows, f->column_weights, sums);
    else
        f->c->kernels->taps_u8_u16(n, f->down_taps, rows, f->column_weights, sums);
}

static void sums_across(const filter *f, int64_t n, const void *const *taps, int16_t *wide, void *y) {
    const we_image_kernels *k = f->c->kernels;
    if (f->kind == UNSIGNED_16) {
        k->taps_small_u8(n, f->across_taps, (const uint16_t *const *)taps, f->row_weights, f->shift, y);
    } else if (f->kind == UNSIGNED_32) {
        k->taps_u16_u8(n, f->across_taps, (const uint16_t *const *)taps, f->row_weights, y);
    } else {
        int16_t *to = f->out->dtype == WE_I16 ? y : wide;
        k->taps_i16(n, f->across_taps, (const int16_t *const *)taps, f->row_weights, to);
        store_i16(f, n, to, y);
    }
}

static bool whole_rows(void *context, int64_t begin, int64_t end) {
    const filter *f = context;
    int64_t channels = f->in->channels, n = f->out->width * channels;
    size_t nothing = rounded_up((size_t)n), wide = rounded_up((size_t)n * sizeof(int16_t));
    size_t widened = rounded_up((size_t)((f->in->width + f->width) * channels) * sizeof(int16_t));
    size_t pointers = (size_t)(f->down_taps + f->across_taps) * sizeof(void *);
    char *scratch = we_memory_new(nothing + wide + widened + pointers);
    if (!scratch)
        return false;
    char *sums = scratch + nothing, *spare = sums + widened;
    const void **rows = (const void **)(void *)(spare + wide), **taps = rows + f->down_taps;
    for (int32_t t = 0; t < f->across_taps; t++)
        taps[t] = sums + (size_t)(f->across_at[t] * channels) * sizeof(int16_t);
    for (int64_t y = begin; y < end; y++) {
        for (int32_t t = 0; t < f->down_taps; t++) {
            int64_t from = we_border_at(y - f->up + f->down_at[t], f->in->height, f->border);
            rows[t] = from < 0 ? scratch : we_image_row(f->in, from);
        }
        sums_down(f, n, (const uint8_t *const *)rows, sums + (size_t)(f->left * channels) * sizeof(int16_t));
        extend(f, sizeof(int16_t), sums);
        sums_across(f, n, taps, (int16_t *)(void *)spare, we_image_row(f->out, y));
    }
    we_memory_free(scratch);
    return true;
}

/* A full kernel: all its taps at once. */
static void whole_full_down(const filter *f, int64_t n, const void *const *rows, void *wide, void *y,
                            const void **taps) {
    int16_t *to = f->out->dtype == WE_I16 ? y : wide;
    f->c->kernels->taps_u8_i16(n, f->taps, (const uint8_t *const *)taps_full(f, rows, taps),
                               f->column_weights, to);
    store_i16(f, n, to, y);
}

/* ---- Floats ---- */

static void store_f32(const filter *f, int64_t n, float *sums, void *y) {
    if (f->delta != 0) {
        for (int64_t i = 0; i < n; i++)
            sums[i] += (float)f->delta;
    }
    WE_FOR_PIXELS(f->out->dtype, {
        for (int64_t i = 0; i < n; i++)
            ((T *)y)[i] = (T)we_pixel_saturate(f->out->dtype, (double)sums[i]);
    })
}

static void f32_across(const filter *f, int64_t n, const void *widened, void *kept, const void **taps) {
    f->c->kernels->taps_f32(n, f->width, (const float *const *)taps_across(f, widened, taps), f->row_weights,
                            kept);
}

static void f32_down(const filter *f, int64_t n, const void *const *rows, void *wide, void *y,
                     const void **taps) {
    int32_t count = f->full ? f->taps : f->height;
    const void *const *read = f->full ? (const void *const *)taps_full(f, rows, taps) : rows;
    float *to = f->out->dtype == WE_F32 ? y : wide;
    if (f->out->dtype == WE_U8) {
        f->c->kernels->taps_f32_u8(n, count, (const float *const *)read, f->column_weights, (float)f->delta,
                                   y);
        return;
    }
    f->c->kernels->taps_f32(n, count, (const float *const *)read, f->column_weights, to);
    if (f->out->dtype != WE_F32) {
        store_f32(f, n, to, y);
    } else if (f->delta != 0) {
        for (int64_t i = 0; i < n; i++)
            to[i] += (float)f->delta;
    }
}

static void f64_across(const filter *f, int64_t n, const void *widened, void *kept, const void **taps) {
    f->c->kernels->taps_f64(n, f->width, (const double *const *)taps_across(f, widened, taps), f->row_weights,
                            kept);
}

static void f64_down(const filter *f, int64_t n, const void *const *rows, void *wide, void *y,
                     const void **taps) {
    int32_t count = f->full ? f->taps : f->height;
    const void *const *read = f->full ? (const void *const *)taps_full(f, rows, taps) : rows;
    f->c->kernels->taps_f64(n, count, (const double *const *)read, f->column_weights, wide);
    double *sums = wide;
    for (int64_t i = 0; i < n; i++)
        sums[i] = sums[i] * f->scale + f->delta;
    we_pixels_from_f64(f->out->dtype, n, sums, y);
}

/* ---- Choosing ---- */

static void *weights_as(we_dtype dtype, const double *k, int32_t n) {
    void *to = we_memory_new((size_t)n * sizeof(double));
    if (to)
        we_pixels_from_f64(dtype, n, k, to);
    return to;
}

static double weight_sum(const double *k, int32_t n) { /* of magnitudes; NaN unless all are whole */
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += k[i] == rint(k[i]) ? fabs(k[i]) : (double)NAN;
    return sum;
}

/* Whether 16 bits hold every sum of bytes, weights of this sum being whole, and the result takes it. */
static bool is_whole(const filter *f, double weights) {
    bool typed = f->out->dtype == WE_I16 || f->out->dtype == WE_U8 || f->out->dtype == WE_F32;
    return f->in->dtype == WE_U8 && typed && 255 * weights <= INT16_MAX && f->scale == 1 &&
           f->delta == rint(f->delta) && fabs(f->delta) < 1e6;
}

/* Leave out the zeros of a full kernel. */
static bool pick_taps(filter *f, we_dtype dtype) {
    int32_t all = f->width * f->height;
    f->tap_row = we_memory_new((size_t)all * sizeof(int32_t));
    f->tap_column = we_memory_new((size_t)all * sizeof(int32_t));
    double *picked = we_memory_new((size_t)all * sizeof(double));
    if (f->tap_row && f->tap_column && picked) {
        for (int32_t i = 0; i < all; i++) {
            if (f->full[i] == 0 && !(i == all - 1 && f->taps == 0))
                continue;
            f->tap_row[f->taps] = i / f->width;
            f->tap_column[f->taps] = i % f->width;
            picked[f->taps++] = f->full[i];
        }
        f->column_weights = weights_as(dtype, picked, f->taps);
    }
    we_memory_free(picked);
    return f->column_weights != NULL;
}

/* Leave out the zeros of a line, and divide by what all the others are multiples of. */
static void *pick_line(const double *k, int32_t n, we_dtype dtype, double divisor, int32_t **at,
                       int32_t *taps) {
    double *picked = we_memory_new((size_t)n * sizeof(double));
    void *weights = NULL;
    *at = we_memory_new((size_t)n * sizeof(int32_t));
    if (*at && picked) {
        for (int32_t i = 0; i < n; i++) {
            if (k[i] == 0 && !(i == n - 1 && *taps == 0))
                continue;
            (*at)[*taps] = i;
            picked[(*taps)++] = k[i] / divisor;
        }
        weights = weights_as(dtype, picked, *taps);
    }
    we_memory_free(picked);
    return weights;
}

/* The largest power of two that divides whole weights, 256 at most. */
static double common_power(const double *k, int32_t n) {
    double power = 256;
    for (int32_t i = 0; i < n; i++) {
        while (k[i] != power * rint(k[i] / power))
            power /= 2;
    }
    return power;
}

/* Bytes and whole weights, those of `fixed` in 256ths. */
static we_status run_whole(filter *f, bool fixed, we_error *err) {
    double row_by = 1, column_by = 1;
    f->kind = fixed ? UNSIGNED_32 : SIGNED_16;
    if (fixed) {
        double row_power = common_power(f->row, f->width), column_power = common_power(f->column, f->height);
        double total = 65536 / (row_power * column_power);
        if (total <= 256 && f->width <= 5) {
            f->kind = UNSIGNED_16;
            f->shift = (int32_t)rint(log2(total));
            row_by = row_power;
            column_by = column_power;
        }
    }
    we_dtype weights = fixed ? WE_U16 : WE_I16;
    f->row_weights = pick_line(f->row, f->width, weights, row_by, &f->across_at, &f->across_taps);
    f->column_weights = pick_line(f->column, f->height, weights, column_by, &f->down_at, &f->down_taps);
    if (!f->row_weights || !f->column_weights)
        return we_error_no_memory(err);
    int64_t work = f->in->width * f->in->channels * (f->across_taps + f->down_taps);
    return we_imaging_rows(f->c, f->out->height, work, whole_rows, f, err);
}

static we_status run_full(filter *f, we_error *err) {
    bool wide = f->in->dtype == WE_F64 || f->out->dtype == WE_F64 || f->in->dtype == WE_I32;
    we_dtype weights = wide ? WE_F64 : WE_F32;
    f->element = we_dtype_size(weights);
    f->down = wide ? f64_down : f32_down;
    if (is_whole(f, weight_sum(f->full, f->width * f->height))) {
        weights = WE_I16;
        f->element = 1;
        f->down = whole_full_down;
    }
    f->held = f->element;
    if (!pick_taps(f, weights))
        return we_error_no_memory(err);
    return we_imaging_rows(f->c, f->out->height, f->in->width * f->in->channels * f->taps, filter_rows, f,
                           err);
}

static we_status run_floats(filter *f, we_error *err) {
    bool wide = f->in->dtype == WE_F64 || f->out->dtype == WE_F64 || f->scale != 1 || f->in->dtype == WE_I32;
    we_dtype weights = wide ? WE_F64 : WE_F32;
    f->element = f->held = we_dtype_size(weights);
    f->across = wide ? f64_across : f32_across;
    f->down = wide ? f64_down : f32_down;
    f->row_weights = weights_as(weights, f->row, f->width);
    f->column_weights = weights_as(weights, f->column, f->height);
    if (!f->row_weights || !f->column_weights)
        return we_error_no_memory(err);
    int64_t work = f->in->width * f->in->channels * (f->width + f->height);
    return we_imaging_rows(f->c, f->out->height, work, filter_rows, f, err);
}

static we_status run_filter(filter *f, bool fixed, we_error *err) {
    if (f->full)
        return run_full(f, err);
    if (fixed || is_whole(f, weight_sum(f->row, f->width) * weight_sum(f->column, f->height)))
        return run_whole(f, fixed, err);
    return run_floats(f, err);
}

static void filter_end(filter *f) {
    we_memory_free(f->row_weights);
    we_memory_free(f->column_weights);
    we_memory_free(f->tap_row);
    we_memory_free(f->tap_column);
    we_memory_free(f->across_at);
    we_memory_free(f->down_at);
}

/* ---- Operations ---- */

/* What all have in common: images of one size, a kernel of at most MOST_SIDE and an anchor (-1: its middle).
 */
static we_status begin(const we_imaging_call *c, int64_t width, int64_t height, double anchor_x,
                       double anchor_y, double border, filter *f, we_error *err) {
    WE_TRY(we_image_expect(c->in, WE_PIXELS | WE_TYPE(I32), "a filter", err));
    WE_TRY(we_image_expect(c->out, WE_PIXELS, "a filter", err));
    WE_TRY(we_image_expect_size(c->out, c->in, "a filter", err));
    if (width < 1 || height < 1 || width > MOST_SIDE || height > MOST_SIDE || width * height > 1 << 20)
        return we_error_set(err, WE_INVALID_ARGUMENT, "a kernel of %lld x %lld is not possible",
                            (long long)height, (long long)width);
    *f = (filter){
        .c = c, .in = c->in, .out = c->out, .width = (int32_t)width, .height = (int32_t)height, .scale = 1};
    WE_TRY(we_number_within(anchor_x, -1, width - 1, "the anchor", &f->left, err));
    WE_TRY(we_number_within(anchor_y, -1, height - 1, "the anchor", &f->up, err));
    f->left = f->left < 0 ? width / 2 : f->left;
    f->up = f->up < 0 ? height / 2 : f->up;
    return we_border_of(border, &f->border, err);
}

static we_status expect_weights(const we_image *k, bool line, we_error *err) {
    bool fits = k->dtype == WE_F64 && k->channels == 1 && (!line || k->height == 1) &&
                k->row == k->width * (int64_t)sizeof(double);
    const double *weights = k->data;
    for (int64_t i = 0; fits && i < k->height * k->width; i++)
        fits = isfinite(weights[i]) && fabs(weights[i]) < 1e30;
    return fits ? WE_OK
                : we_error_set(err, WE_INVALID_ARGUMENT, "the weights of a kernel must be finite numbers");
}

static we_status finish(const we_imaging_call *c, filter *f, bool fixed, we_error *err) {
    we_status status = we_image_is_empty(c->in) ? WE_OK : run_filter(f, fixed, err);
    filter_end(f);
    return status;
}

/* Inputs: image, weights across, weights down. Numbers: anchor x, y, delta, border, whether weights are in
 * 256ths and add up to 256 (bytes only). */
we_status we_imaging_filter_separable(const we_imaging_call *c, we_error *err) {
    filter f;
    WE_TRY(expect_weights(&c->in[1], true, err));
    WE_TRY(expect_weights(&c->in[2], true, err));
    WE_TRY(begin(c, c->in[1].width, c->in[2].width, c->p[0], c->p[1], c->p[3], &f, err));
    f.row = c->in[1].data;
    f.column = c->in[2].data;
    f.delta = c->p[2];
    if (c->p[4] != 0) {
        double sums = weight_sum(f.row, f.width) * 1000 + weight_sum(f.column, f.height);
        if (c->in->dtype != WE_U8 || c->out->dtype != WE_U8 || sums != 256256)
            return we_error_set(err, WE_INVALID_ARGUMENT,
                                "weights of 8 bits are for bytes and add up to 256");
    }
    return finish(c, &f, c->p[4] != 0, err);
}

/* Inputs: image, weights. Numbers: anchor x, y, delta, border. */
we_status we_imaging_filter_full(const we_imaging_call *c, we_error *err) {
    filter f;
    WE_TRY(expect_weights(&c->in[1], false, err));
    WE_TRY(begin(c, c->in[1].width, c->in[1].height, c->p[0], c->p[1], c->p[3], &f, err));
    f.full = c->in[1].data;
    f.delta = c->p[2];
    return finish(c, &f, false, err);
}

/* ---- Boxes of bytes: the sums of columns slide down ---- */

typedef struct box {
    filter f;
    float scale;
    uint32_t by, plus; /* see box_u16_u8 */
    int32_t shift;
} box;

static bool box_rows(void *context, int64_t first, int64_t end) {
    const box *b = context;
    const filter *f = &b->f;
    int64_t channels = f->in->channels, n = f->out->width * channels, all = n + (f->width - 1) * channels;
    size_t nothing = rounded_up((size_t)n);
    uint8_t *scratch = we_memory_new(nothing + (size_t)all * sizeof(uint16_t));
    if (!scratch)
        return false;
    char *sums = (char *)scratch + nothing, *middle = sums + (size_t)(f->left * channels) * sizeof(uint16_t);
    for (int64_t next = first - f->up, y = first; y < end; y++) {
        for (; next < y - f->up + f->height; next++) {
            int64_t enters = we_border_at(next, f->in->height, f->border),
                    leaves = we_border_at(next - f->height, f->in->height, f->border);
            const uint8_t *newest = enters < 0 ? scratch : (const uint8_t *)we_image_row(f->in, enters);
            const uint8_t *oldest = leaves < 0 ? scratch : (const uint8_t *)we_image_row(f->in, leaves);
            f->c->kernels->slide_u8(n, newest, next < first - f->up + f->height ? NULL : oldest,
                                    (uint16_t *)(void *)middle);
        }
        extend(f, sizeof(uint16_t), sums);
        f->c->kernels->box_u16_u8(n, f->width, channels, (const uint16_t *)(const void *)sums, b->scale,
                                  b->by, b->plus, b->shift, (uint8_t *)we_image_row(f->out, y));
    }
    we_memory_free(scratch);
    return true;
}

/* The least shift of 16 or more, and the factor, by which sums of up to 255 * area / area come out right:
 * some areas have a factor of 16 bits, the others one of 24. */
static void find_factor(uint32_t area, uint32_t *by, int32_t *shift) {
    for (*shift = 16; *shift < 24; ++*shift) {
        *by = ((1u << *shift) + area - 1) / area;
        uint32_t error = *by * area - (1u << *shift);
        if (*by <= UINT16_MAX && (uint64_t)error * (255 * area + area / 2) < (1u << *shift))
            return;
    }
    *by = ((1u << *shift) + area - 1) / area;
}

/* Numbers: width, height, anchor x, y, whether the sum is divided by the size, border. */
we_status we_imaging_filter_box(const we_imaging_call *c, we_error *err) {
    int64_t width = 0, height = 0;
    box b = {0};
    WE_TRY(we_number_within(c->p[0], 1, MOST_SIDE, "the width of the box", &width, err));
    WE_TRY(we_number_within(c->p[1], 1, MOST_SIDE, "the height of the box", &height, err));
    WE_TRY(begin(c, width, height, c->p[2], c->p[3], c->p[5], &b.f, err));
    filter *f = &b.f;
    double scale = c->p[4] != 0 ? 1. / (double)(width * height) : 1;
    if (c->in->dtype == WE_U8 && c->out->dtype == WE_U8 && height <= 257 && width * height <= 1 << 16) {
        f->element = 1;
        b.scale = (float)scale;
        if (c->p[4] != 0 && width * height <= 256) { /* OpenCV rounds means of small boxes half up */
            b.plus = (uint32_t)(width * height / 2);
            find_factor((uint32_t)(width * height), &b.by, &b.shift);
        }
        int64_t bytes = c->in->width * c->in->channels * 4;
        return we_image_is_empty(c->in) ? WE_OK
                                        : we_imaging_rows(c, c->out->height, bytes, box_rows, &b, err);
    }
    double *ones = we_memory_new((size_t)(width + height) * sizeof(double));
    if (!ones)
        return we_error_no_memory(err);
    for (int64_t i = 0; i < width + height; i++)
        ones[i] = 1;
    f->row = f->column = ones;
    f->scale = scale;
    we_status status = finish(c, f, false, err);
    we_memory_free(ones);
    return status;
}
