/* Order instead of sums: erosion, dilation, medians. */
#include "imaging/imaging.h"

enum { MOST_SIDE = 1024, FEW = 9 };

typedef struct ranking {
    const we_imaging_call *c;
    const we_image *in, *out;
    int64_t width, height, left, up, channels;
    int border;
    bool most;            /* dilation; else erosion */
    double outside;       /* the element that lies there where the border is constant, in its own type */
    const uint8_t *shape; /* [height][width]; NULL: a full rectangle */
    int64_t taps, *tap_row, *tap_column;
    size_t element;
} ranking;

static void put_outside(const ranking *r, int64_t pixels, char *to) {
    if (r->element == 1) {
        memset(to, *(const uint8_t *)(const void *)&r->outside, (size_t)(pixels * r->channels));
        return;
    }
    for (int64_t i = 0; i < pixels * r->channels; i++)
        memcpy(to + (size_t)i * r->element, &r->outside, r->element);
}

static void extend(const ranking *r, char *row) {
    we_image_extend(row, r->in->width, r->channels, r->element, r->left, r->width - 1 - r->left, r->border,
                    &r->outside);
}

/* Source row `y` with its border; the constant is one that changes no result, or the caller's. */
static void widen(const ranking *r, int64_t y, char *to) {
    size_t pixel = (size_t)r->channels * r->element;
    y = we_border_at(y, r->in->height, r->border);
    if (y < 0) {
        put_outside(r, r->in->width + r->width - 1, to);
        return;
    }
    memcpy(to + (size_t)r->left * pixel, we_image_row(r->in, y), (size_t)r->in->width * pixel);
    extend(r, to);
}

static void extreme(const ranking *r, int64_t n, int64_t count, const void *const *x, void *y) {
    if (r->in->dtype == WE_U8) {
        (r->most ? r->c->kernels->most_u8 : r->c->kernels->least_u8)(n, (int32_t)count,
                                                                     (const uint8_t *const *)x, y);
        return;
    }
    WE_FOR_PIXELS(r->in->dtype, {
        memcpy(y, x[0], (size_t)n * sizeof(T));
        for (int64_t t = 1; t < count; t++) {
            const T *from = x[t];
            T *to = y;
            for (int64_t i = 0; i < n; i++)
                to[i] = (r->most ? from[i] > to[i] : from[i] < to[i]) ? from[i] : to[i];
        }
    })
}

/* The extreme of `count` neighbours `step` bytes apart in one buffer, by doubling: windows of 2, 4, 8 ... and
 * at last two that overlap. buffer[0 .. n + (count - 1) * step) is used up; the result is left in its first n
 * elements. */
static void extreme_run(const ranking *r, int64_t n, int64_t count, size_t step, char *buffer, char *spare,
                        void *y) {
    int64_t window = 1;
    char *from = buffer, *to = spare;
    while (2 * window < count) {
        int64_t length = n + (count - 2 * window) * (int64_t)(step / r->element);
        const void *two[2] = {from, from + (size_t)window * step};
        extreme(r, length, 2, two, to);
        char *swap = from;
        from = to;
        to = swap;
        window *= 2;
    }
    const void *two[2] = {from, from + (size_t)(count - window) * step};
    extreme(r, n, count > 1 ? 2 : 1, two, y);
}

static size_t rounded_up(size_t size) {
    return (size + 63) / 64 * 64;
}

/* A rectangle: the extreme across each widened row, then down the ring. */
static bool rectangle_rows(void *context, int64_t begin, int64_t end) {
    const ranking *r = context;
    int64_t n = r->out->width * r->channels;
    size_t widened = rounded_up((size_t)((r->in->width + r->width) * r->channels) * r->element);
    size_t kept = rounded_up((size_t)n * r->element);
    char *scratch =
        we_memory_new_dirty(2 * widened + kept * (size_t)r->height + (size_t)r->height * sizeof(void *));
    if (!scratch)
        return false;
    char *source = scratch, *spare = source + widened, *ring = spare + widened;
    const void **rows = (const void **)(void *)(ring + kept * (size_t)r->height);
    size_t step = (size_t)r->channels * r->element;
    for (int64_t next = begin - r->up, y = begin; y < end; y++) {
        for (; next < y - r->up + r->height; next++) {
            widen(r, next, source);
            char *slot = ring + kept * (size_t)((next - begin + r->up) % r->height);
            if (r->width == 3) {
                const void *three[3] = {source, source + step, source + 2 * step};
                extreme(r, n, 3, three, slot);
            } else {
                extreme_run(r, n, r->width, step, source, spare, slot);
            }
        }
        for (int64_t t = 0; t < r->height; t++)
            rows[t] = ring + kept * (size_t)t;
        extreme(r, n, r->height, rows, we_image_row(r->out, y));
    }
    we_memory_free(scratch);
    return true;
}

/* ---- Rectangles of bytes: down the source's rows where they lie, then across the one row of extremes ----
 */

/* Rows of scratch: one for what lies outside, three that have room for a border, and `more`. */
typedef struct lines {
    size_t row, left;
    char *outside, *line[3], *more;
} lines;

static bool open_lines(const ranking *r, int64_t more, lines *l) {
    l->row = rounded_up((size_t)((r->in->width + r->width) * r->channels));
    l->left = (size_t)(r->left * r->channels);
    l->outside = we_memory_new_dirty((size_t)(4 + more) * l->row);
    if (!l->outside)
        return false;
    for (int i = 0; i < 3; i++)
        l->line[i] = l->outside + (size_t)(1 + i) * l->row;
    l->more = l->line[2] + l->row;
    put_outside(r, r->out->width, l->outside);
    return true;
}

static const void *source_row(const ranking *r, const lines *l, int64_t y) {
    int64_t from = we_border_at(y, r->in->height, r->border);
    return from < 0 ? l->outside : we_image_row(r->in, from);
}

/* From the extremes down in `line`, which are used up, to row y of the result. */
static void rectangle_across(const ranking *r, const lines *l, char *line, int64_t y) {
    int64_t n = r->out->width * r->channels;
    extend(r, line);
    if (r->width > FEW) {
        extreme_run(r, n, r->width, (size_t)r->channels, line, l->line[2], we_image_row(r->out, y));
        return;
    }
    const void *taps[FEW];
    for (int64_t t = 0; t < r->width; t++)
        taps[t] = line + t * r->channels;
    extreme(r, n, r->width, taps, we_image_row(r->out, y));
}

/* Two results at once, as they share nearly all their rows. */
static bool low_rectangle_rows(void *context, int64_t begin, int64_t end) {
    const ranking *r = context;
    const we_image_kernels *k = r->c->kernels;
    int64_t n = r->out->width * r->channels;
    lines l;
    if (!open_lines(r, 0, &l))
        return false;
    for (int64_t y = begin; y < end; y += 2) {
        const void *rows[FEW + 1];
        bool two = y + 1 < end;
        for (int64_t t = 0; t < r->height + two; t++)
            rows[t] = source_row(r, &l, y - r->up + t);
        if (two)
            (r->most ? k->most_pair_u8
                     : k->least_pair_u8)(n, (int32_t)r->height, (const uint8_t *const *)rows,
                                         (uint8_t *)l.line[0] + l.left, (uint8_t *)l.line[1] + l.left);
        else
            extreme(r, n, r->height, rows, l.line[0] + l.left);
        for (int i = 0; i <= two; i++)
            rectangle_across(r, &l, l.line[i], y + i);
    }
    we_memory_free(l.outside);
    return true;
}

/* Source: van Herk, "A fast algorithm for local minimum and maximum filters" (1992): of as many results as
 * the rectangle is high, each takes the extreme of the rest of one stretch of rows and of the start of the
 * next. */
static bool high_rectangle_rows(void *context, int64_t begin, int64_t end) {
    const ranking *r = context;
    int64_t n = r->out->width * r->channels, high = r->height;
    lines l;
    if (!open_lines(r, high + 2, &l))
        return false;
    char *rests = l.more, *starts[2] = {rests + (size_t)high * l.row, rests + (size_t)(high + 1) * l.row};
    for (int64_t first = begin; first < end; first += high) {
        int64_t top = first - r->up, count = end - first < high ? end - first : high;
        memcpy(rests + (size_t)(high - 1) * l.row, source_row(r, &l, top + high - 1), (size_t)n);
        for (int64_t t = high - 2; t >= 0; t--) {
            const void *both[2] = {source_row(r, &l, top + t), rests + (size_t)(t + 1) * l.row};
            extreme(r, n, 2, both, rests + (size_t)t * l.row);
        }
        for (int64_t t = 0; t < count; t++) {
            const void *both[2] = {rests + (size_t)t * l.row, starts[t % 2]};
            if (t > 0) {
                const void *longer[2] = {starts[(t - 1) % 2], source_row(r, &l, top + high - 1 + t)};
                extreme(r, n, t == 1 ? 1 : 2, longer + (t == 1), starts[t % 2]);
            }
            extreme(r, n, t == 0 ? 1 : 2, both, l.line[0] + l.left);
            rectangle_across(r, &l, l.line[0], first + t);
        }
    }
    we_memory_free(l.outside);
    return true;
}

/* Medians of squares of bytes of few channels, of the source's rows where they lie. */
static bool median_square_rows(void *context, int64_t begin, int64_t end) {
    const ranking *r = context;
    const we_image_kernels *k = r->c->kernels;
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *rows[5];
        for (int64_t t = 0; t < r->height; t++)
            rows[t] =
                (const uint8_t *)we_image_row(r->in, we_border_at(y - r->up + t, r->in->height, r->border));
        (r->height == 3 ? k->median3_u8 : k->median5_u8)(r->in->width * r->channels, r->channels, rows,
                                                         (uint8_t *)we_image_row(r->out, y));
    }
    return true;
}

static void middle_of(const ranking *r, int64_t n, const void *const *x, void *y) {
    if (r->in->dtype == WE_U8) {
        (r->taps == 9 ? r->c->kernels->middle9_u8 : r->c->kernels->middle25_u8)(n, (const uint8_t *const *)x,
                                                                                y);
        return;
    }
    int64_t half = r->taps / 2;
    WE_FOR_PIXELS(r->in->dtype, {
        T v[25] = {0};
        for (int64_t i = 0; i < n; i++) {
            for (int64_t t = 0; t < r->taps; t++) { /* insertion: 25 at most */
                T value = ((const T *)x[t])[i];
                int64_t at = t;
                for (; at > 0 && v[at - 1] > value; at--)
                    v[at] = v[at - 1];
                v[at] = value;
            }
            ((T *)y)[i] = v[half];
        }
    })
}

/* Any shape: all its taps at once. Medians of small squares as well, where taps are all. */
static bool shape_rows(void *context, int64_t begin, int64_t end) {
    const ranking *r = context;
    int64_t n = r->out->width * r->channels;
    size_t widened = rounded_up((size_t)((r->in->width + r->width) * r->channels) * r->element);
    char *ring =
        we_memory_new_dirty(widened * (size_t)r->height + (size_t)(r->taps + r->height) * sizeof(void *));
    if (!ring)
        return false;
    const void **taps = (const void **)(void *)(ring + widened * (size_t)r->height);
    const char **rows = (const char **)(taps + r->taps);
    for (int64_t next = begin - r->up, y = begin; y < end; y++) {
        for (; next < y - r->up + r->height; next++)
            widen(r, next, ring + widened * (size_t)((next - begin + r->up) % r->height));
        for (int64_t t = 0, slot = (y - begin) % r->height; t < r->height; t++) {
            rows[t] = ring + widened * (size_t)slot;
            slot = slot + 1 < r->height ? slot + 1 : 0;
        }
        for (int64_t t = 0; t < r->taps; t++)
            taps[t] = rows[r->tap_row[t]] + (size_t)(r->tap_column[t] * r->channels) * r->element;
        if (r->shape)
            extreme(r, n, r->taps, taps, we_image_row(r->out, y));
        else
            middle_of(r, n, taps, we_image_row(r->out, y));
    }
    we_memory_free(ring);
    return true;
}

static bool list_taps(ranking *r) {
    r->tap_row = we_memory_new((size_t)(r->width * r->height) * sizeof(int64_t));
    r->tap_column = we_memory_new((size_t)(r->width * r->height) * sizeof(int64_t));
    if (!r->tap_row || !r->tap_column)
        return false;
    for (int64_t i = 0; i < r->width * r->height; i++) {
        if (r->shape && !r->shape[i])
            continue;
        r->tap_row[r->taps] = i / r->width;
        r->tap_column[r->taps++] = i % r->width;
    }
    return true;
}

/* Inputs: image, shape (bytes). Numbers: 1 for dilation and 0 for erosion, anchor x, y, border, its value
 * (NaN: one that changes nothing). */
we_status we_imaging_morphology(const we_imaging_call *c, we_error *err) {
    const we_image *shape = &c->in[1];
    WE_TRY(we_image_expect(c->in, WE_PIXELS, "morphology", err));
    WE_TRY(we_image_expect_like(c->out, c->in, "morphology", err));
    if (shape->dtype != WE_U8 || shape->channels != 1 || shape->width < 1 || shape->height < 1 ||
        shape->width > MOST_SIDE || shape->height > MOST_SIDE || shape->row != shape->width)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "a structuring element is an image of bytes of at most %d x %d", MOST_SIDE,
                            MOST_SIDE);
    ranking r = {.c = c,
                 .in = c->in,
                 .out = c->out,
                 .width = shape->width,
                 .height = shape->height,
                 .channels = c->in->channels,
                 .most = c->p[0] != 0,
                 .shape = shape->data,
                 .element = we_image_size(c->in)};
    WE_TRY(we_number_within(c->p[1], -1, r.width - 1, "the anchor", &r.left, err));
    WE_TRY(we_number_within(c->p[2], -1, r.height - 1, "the anchor", &r.up, err));
    r.left = r.left < 0 ? r.width / 2 : r.left;
    r.up = r.up < 0 ? r.height / 2 : r.up;
    WE_TRY(we_border_of(c->p[3], &r.border, err));
    double least = c->in->dtype == WE_F32   ? -3.402823466e38
                   : c->in->dtype == WE_F64 ? -1.7976931348623157e308
                                            : -1e9;
    double outside = isnan(c->p[4]) ? (r.most ? least : -least) : c->p[4];
    we_pixels_from_f64(c->in->dtype, 1, &outside, &r.outside);
    if (we_image_is_empty(c->in))
        return WE_OK;
    if (!list_taps(&r)) {
        we_memory_free(r.tap_row);
        we_memory_free(r.tap_column);
        return we_error_no_memory(err);
    }
    bool full = r.taps == r.width * r.height;
    we_status status;
    if (r.taps == 0)
        status = we_error_set(err, WE_INVALID_ARGUMENT,
                              "a structuring element must have an element that is not 0");
    else
        status = we_imaging_rows(c, c->out->height, c->in->width * r.channels * (full ? 6 : r.taps),
                                 !full                   ? shape_rows
                                 : c->in->dtype != WE_U8 ? rectangle_rows
                                 : r.height > FEW        ? high_rectangle_rows
                                                         : low_rectangle_rows,
                                 &r, err);
    we_memory_free(r.tap_row);
    we_memory_free(r.tap_column);
    return status;
}

/* ---- Medians of large windows of bytes ---- */

/* Source: Perreault and Hebert, "Median filtering in constant time" (2007): a histogram for every column
 * slides down, and one for the window slides across, here on two levels of 16 bins. */
typedef struct counts {
    uint16_t coarse[16], fine[256];
} counts;

static void counts_move(const ranking *r, counts *to, const counts *in, const counts *out) {
    r->c->kernels->slide_counts((const uint16_t *)in, (const uint16_t *)out, (uint16_t *)to);
}

static uint8_t counts_middle(const counts *k, int32_t rank) {
    int32_t bin = 0, value;
    for (; rank >= k->coarse[bin]; bin++)
        rank -= k->coarse[bin];
    for (value = 16 * bin; rank >= k->fine[value]; value++)
        rank -= k->fine[value];
    return (uint8_t)value;
}

static void column_count(counts *columns, const uint8_t *row, int64_t width, int64_t channels,
                         int64_t channel, int32_t by) {
    for (int64_t x = 0; x < width; x++) {
        uint8_t value = row[x * channels + channel];
        columns[x].coarse[value >> 4] = (uint16_t)(columns[x].coarse[value >> 4] + by);
        columns[x].fine[value] = (uint16_t)(columns[x].fine[value] + by);
    }
}

static bool median_rows(void *context, int64_t begin, int64_t end) {
    const ranking *r = context;
    int64_t width = r->in->width, height = r->in->height, side = r->width, half = side / 2;
    counts *columns = we_memory_new((size_t)width * sizeof(counts));
    if (!columns)
        return false;
    for (int64_t c = 0; c < r->channels; c++) {
        memset(columns, 0, (size_t)width * sizeof(counts));
        for (int64_t y = begin - half; y < begin + half; y++)
            column_count(columns,
                         (const uint8_t *)we_image_row(r->in, we_border_at(y, height, WE_BORDER_REPLICATE)),
                         width, r->channels, c, 1);
        for (int64_t y = begin; y < end; y++) {
            int64_t enters = we_border_at(y + half, height, WE_BORDER_REPLICATE);
            column_count(columns, (const uint8_t *)we_image_row(r->in, enters), width, r->channels, c, 1);
            counts window = {{0}, {0}};
            static const counts NOTHING;
            for (int64_t x = -half; x <= half; x++)
                counts_move(r, &window, &columns[we_border_at(x, width, WE_BORDER_REPLICATE)], &NOTHING);
            uint8_t *to = (uint8_t *)we_image_row(r->out, y);
            for (int64_t x = 0; x < width; x++) {
                to[x * r->channels + c] = counts_middle(&window, (int32_t)(side * side / 2));
                counts_move(r, &window, &columns[we_border_at(x + half + 1, width, WE_BORDER_REPLICATE)],
                            &columns[we_border_at(x - half, width, WE_BORDER_REPLICATE)]);
            }
            int64_t leaves = we_border_at(y - half, height, WE_BORDER_REPLICATE);
            column_count(columns, (const uint8_t *)we_image_row(r->in, leaves), width, r->channels, c, -1);
        }
    }
    we_memory_free(columns);
    return true;
}

/* Numbers: the side of the window, odd. */
we_status we_imaging_median(const we_imaging_call *c, we_error *err) {
    int64_t side = 0;
    WE_TRY(we_number_within(c->p[0], 1, 255, "the side of a median's window", &side, err));
    WE_TRY(we_image_expect(c->in, side <= 5 ? WE_PIXELS : WE_TYPE(U8), "a median of this size", err));
    WE_TRY(we_image_expect_like(c->out, c->in, "a median", err));
    if (side % 2 == 0)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the side of a median's window must be odd, not %lld",
                            (long long)side);
    ranking r = {.c = c,
                 .in = c->in,
                 .out = c->out,
                 .width = side,
                 .height = side,
                 .left = side / 2,
                 .up = side / 2,
                 .channels = c->in->channels,
                 .border = WE_BORDER_REPLICATE,
                 .element = we_image_size(c->in)};
    int64_t bytes = c->in->width * r.channels;
    if (we_image_is_empty(c->in))
        return WE_OK;
    if (side > 5)
        return we_imaging_rows(c, c->out->height, bytes * 256, median_rows, &r, err);
    we_status status = WE_OK;
    if (side == 1) {
        for (int64_t y = 0; y < c->in->height; y++)
            memcpy(we_image_row(c->out, y), we_image_row(c->in, y), (size_t)bytes * r.element);
    } else if (c->in->dtype == WE_U8 && r.channels <= 4) {
        status = we_imaging_rows(c, c->out->height, bytes * side * 2, median_square_rows, &r, err);
    } else if (list_taps(&r)) {
        status = we_imaging_rows(c, c->out->height, bytes * side * side, shape_rows, &r, err);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(r.tap_row);
    we_memory_free(r.tap_column);
    return status;
}
