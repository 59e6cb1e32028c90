/* Resizing: nearest, linear, cubic, by area and Lanczos, with OpenCV's positions, weights and rounding. */
#include "imaging/imaging.h"

enum { NEAREST, LINEAR, CUBIC, AREA, LANCZOS, WEIGHT_ONE = 2048, MOST_TAPS = 8 };

/* What the positions of a result read along one side: `taps` elements each, by weights. */
typedef struct line {
    int32_t taps;
    int32_t *at;
    float *weights;
} line;

typedef struct resizing {
    const we_imaging_call *c;
    const we_image *in, *out;
    line x, y;
    int16_t *x_pairs, *y_pairs; /* weights of linear bytes */
    int32_t *x_at;              /* first bytes of the pairs */
    int32_t step;               /* elements from the first to the second of a pair */
    we_row_sink sink;           /* takes the rows of linear bytes; NULL: they go to `out` */
    void *sink_context;
} resizing;

static void line_free(line *l) {
    we_memory_free(l->at);
    we_memory_free(l->weights);
}

static bool line_new(int64_t n, int32_t taps, line *out) {
    *out = (line){taps, we_memory_new((size_t)(n * taps) * sizeof(int32_t)),
                  we_memory_new((size_t)(n * taps) * sizeof(float))};
    return out->at && out->weights;
}

static int64_t within(int64_t i, int64_t n) {
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

static float quantised(float weight, bool fixed) {
    return fixed ? (float)lrintf(weight * WEIGHT_ONE) / WEIGHT_ONE : weight;
}

/* Source: OpenCV's interpolateCubic, a = -0.75. */
static void cubic_weights(float x, float *w) {
    const float a = -0.75f;
    w[0] = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a;
    w[1] = ((a + 2) * x - (a + 3)) * x * x + 1;
    w[2] = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1;
    w[3] = 1.f - w[0] - w[1] - w[2];
}

/* Source: OpenCV's interpolateLanczos4. */
static void lanczos_weights(float x, float *w) {
    static const double root = 0.70710678118654752440084436210485;
    static const double turns[8][2] = {{1, 0},  {-root, -root}, {0, 1},  {root, -root},
                                       {-1, 0}, {root, root},   {0, -1}, {-root, root}};
    const double quarter = 3.1415926535897932384626433832795 * 0.25, start = -(double)(x + 3) * quarter;
    float sum = 0;
    for (int i = 0; i < 8; i++) {
        float away = x + 3 - (float)i;
        double angle = -(double)away * quarter;
        w[i] = fabsf(away) >= 1e-6f
                   ? (float)((turns[i][0] * sin(start) + turns[i][1] * cos(start)) / (angle * angle))
                   : 1e30f;
        sum += w[i];
    }
    for (int i = 0; i < 8; i++)
        w[i] *= 1.f / sum;
}

/* Where result position i lies in the source: `whole` and a fraction. */
static float position(int64_t i, double scale, bool area, int64_t *whole) {
    if (area) { /* enlarging "by area" keeps the pixels' edges */
        *whole = (int64_t)floor((double)i * scale);
        float f = (float)((double)(i + 1) - (double)(*whole + 1) * (1. / scale));
        return f <= 0 ? 0.f : f - floorf(f);
    }
    float f = (float)(((double)i + 0.5) * scale - 0.5);
    *whole = (int64_t)floorf(f);
    return f - (float)*whole;
}

/* At the edges OpenCV ends the weights of columns, but of rows (`down`) only the positions, which rounds
 * otherwise. */
static void line_fill(line *l, bool down, int64_t n, int64_t source, double scale, bool area, bool fixed) {
    for (int64_t i = 0; i < n; i++) {
        int64_t whole;
        float f = position(i, scale, area, &whole);
        int32_t *at = l->at + i * l->taps;
        float *w = l->weights + i * l->taps;
        if (l->taps == 2) {
            if (!down && (whole < 0 || whole >= source - 1))
                f = 0;
            w[0] = quantised(1.f - f, fixed);
            w[1] = quantised(f, fixed);
        } else {
            (l->taps == 4 ? cubic_weights : lanczos_weights)(f, w);
            for (int32_t t = 0; t < l->taps; t++)
                w[t] = quantised(w[t], fixed);
        }
        for (int32_t t = 0; t < l->taps; t++)
            at[t] = (int32_t)within(whole + t + 1 - l->taps / 2, source);
        if (!down && l->taps == 2 && whole < 0)
            at[1] = (int32_t)within(1, source);
    }
}

/* ---- Nearest ---- */

static void copy_pixels(int64_t n, int64_t size, const char *x, const int32_t *at, char *y) {
#define COPY(type)                                                                                           \
    for (int64_t i = 0; i < n; i++)                                                                          \
    memcpy(y + i * (int64_t)sizeof(type), x + at[i], sizeof(type))
    typedef struct three {
        char bytes[3];
    } three;
    switch (size) {
    case 1:
        COPY(char);
        break;
    case 2:
        COPY(int16_t);
        break;
    case 3:
        COPY(three);
        break;
    case 4:
        COPY(int32_t);
        break;
    case 8:
        COPY(int64_t);
        break;
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(y + i * size, x + at[i], (size_t)size);
    }
#undef COPY
}

static bool nearest_rows(void *context, int64_t begin, int64_t end) {
    const resizing *r = context;
    int64_t size = r->in->channels * (int64_t)we_image_size(r->in);
    for (int64_t y = begin; y < end; y++) {
        if (y > begin && r->y.at[y] == r->y.at[y - 1])
            memcpy(we_image_row(r->out, y), we_image_row(r->out, y - 1), (size_t)(size * r->out->width));
        else
            copy_pixels(r->out->width, size, we_image_row(r->in, r->y.at[y]), r->x.at,
                        we_image_row(r->out, y));
    }
    return true;
}

/* ---- Linear, bytes ---- */

/* Kernels read 8 bytes at a time, so the last row of an image is copied to where that is allowed. */
static bool linear_u8_rows(void *context, int64_t begin, int64_t end) {
    const resizing *r = context;
    int64_t n = r->out->width * r->in->channels, bytes = r->in->width * r->in->channels;
    size_t room = (size_t)(n + 64) * sizeof(int16_t);
    char *scratch = we_memory_new_dirty(2 * room + (size_t)bytes + (size_t)n + 128);
    if (!scratch)
        return false;
    int16_t *rows[2] = {(int16_t *)(void *)scratch, (int16_t *)(void *)(scratch + room)};
    uint8_t *last = (uint8_t *)scratch + 2 * room;
    uint8_t *made = last + bytes + 64;
    int64_t held[2] = {-1, -1};
    for (int64_t y = begin; y < end; y++) {
        uint8_t *to = r->sink ? made : (uint8_t *)we_image_row(r->out, y);
        const int32_t *at = r->y.at + 2 * y;
        if (held[1] == at[0]) {
            int16_t *other = rows[0];
            rows[0] = rows[1];
            rows[1] = other;
            held[1] = held[0];
            held[0] = at[0];
        }
        for (int t = 0; t < 2; t++) {
            if (held[t] == at[t])
                continue;
            const uint8_t *x = (const uint8_t *)we_image_row(r->in, at[t]);
            if (at[t] == (r->in->row < 0 ? 0 : r->in->height - 1))
                x = memcpy(last, x, (size_t)bytes);
            r->c->kernels->resize_u8(r->out->width, (int32_t)r->in->channels, x, r->x_at, r->step, r->x_pairs,
                                     rows[t]);
            held[t] = at[t];
        }
        r->c->kernels->lerp_i16_u8(n, rows[0], rows[1], r->y_pairs[2 * y], r->y_pairs[2 * y + 1], to);
        if (r->sink)
            r->sink(r->sink_context, y, to);
    }
    we_memory_free(scratch);
    return true;
}

/* Where the last row or column has no other to be averaged with, it counts alone. */
static void halve_edge(const resizing *r, const uint8_t *a, const uint8_t *b, int64_t i, uint8_t *y) {
    int64_t channels = r->in->channels, next = 2 * i + 1 < r->in->width ? channels : 0;
    for (int64_t c = 0; c < channels; c++) {
        const uint8_t *p = a + 2 * i * channels + c, *q = b + 2 * i * channels + c;
        y[i * channels + c] = (uint8_t)lrintf((float)(p[0] + p[next] + q[0] + q[next]) / 4);
    }
}

static bool halve_rows(void *context, int64_t begin, int64_t end) {
    const resizing *r = context;
    int64_t whole = r->in->width / 2 < r->out->width ? r->in->width / 2 : r->out->width;
    uint8_t *made = r->sink ? we_memory_new_dirty((size_t)(r->out->width * r->in->channels)) : NULL;
    if (r->sink && !made)
        return false;
    for (int64_t y = begin; y < end; y++) {
        uint8_t *to = r->sink ? made : (uint8_t *)we_image_row(r->out, y);
        bool single = 2 * y + 1 >= r->in->height;
        const uint8_t *a = (const uint8_t *)we_image_row(r->in, 2 * y);
        const uint8_t *b = single ? a : (const uint8_t *)we_image_row(r->in, 2 * y + 1);
        if (!single)
            r->c->kernels->halve_u8(whole, (int32_t)r->in->channels, a, b, to);
        for (int64_t i = single ? 0 : whole; i < r->out->width; i++)
            halve_edge(r, a, b, i, to);
        if (r->sink)
            r->sink(r->sink_context, y, to);
    }
    we_memory_free(made);
    return true;
}

static we_status linear_u8(resizing *r, we_error *err) {
    int64_t width = r->out->width, height = r->out->height, channels = r->in->channels;
    r->x_pairs = we_memory_new((size_t)(2 * width) * sizeof(int16_t));
    r->y_pairs = we_memory_new((size_t)(2 * height) * sizeof(int16_t));
    r->x_at = we_memory_new((size_t)width * sizeof(int32_t));
    if (!r->x_pairs || !r->y_pairs || !r->x_at)
        return we_error_no_memory(err);
    r->step = r->in->width > 1 ? (int32_t)channels : 0;
    for (int64_t i = 0; i < width; i++) {
        bool last = r->in->width > 1 && r->x.at[2 * i] == r->in->width - 1; /* read as the second of a pair */
        r->x_at[i] = (int32_t)((r->x.at[2 * i] - last) * channels);
        r->x_pairs[2 * i + last] = (int16_t)lrintf(r->x.weights[2 * i] * WEIGHT_ONE);
        r->x_pairs[2 * i + !last] = (int16_t)lrintf(r->x.weights[2 * i + 1] * WEIGHT_ONE);
    }
    for (int64_t i = 0; i < 2 * height; i++)
        r->y_pairs[i] = (int16_t)lrintf(r->y.weights[i] * WEIGHT_ONE);
    return we_imaging_rows(r->c, height, (r->in->width + width) * channels, linear_u8_rows, r, err);
}

/* ---- Any element by floating-point weights ---- */

static void weigh_row(const resizing *r, const double *x, double *y) {
    int64_t channels = r->in->channels;
    for (int64_t i = 0; i < r->out->width; i++) {
        const int32_t *at = r->x.at + i * r->x.taps;
        const float *w = r->x.weights + i * r->x.taps;
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int32_t t = 0; t < r->x.taps; t++)
                sum += x[at[t] * channels + c] * (double)w[t];
            y[i * channels + c] = sum;
        }
    }
}

static bool weighted_rows(void *context, int64_t begin, int64_t end) {
    const resizing *r = context;
    int64_t n = r->out->width * r->in->channels, in_n = r->in->width * r->in->channels;
    int32_t taps = r->y.taps;
    double *scratch = we_memory_new_dirty((size_t)((taps + 1) * n + in_n) * sizeof(double));
    if (!scratch)
        return false;
    double *source = scratch, *sum = source + in_n, *rows = sum + n;
    int64_t held[MOST_TAPS] = {-1, -1, -1, -1, -1, -1, -1, -1};
    for (int64_t y = begin; y < end; y++) {
        const int32_t *at = r->y.at + y * taps;
        const double *row[MOST_TAPS];
        for (int32_t t = 0; t < taps; t++) {
            int32_t place = at[t] % taps;
            row[t] = rows + place * n;
            if (held[place] == at[t])
                continue;
            we_pixels_to_f64(r->in->dtype, in_n, we_image_row(r->in, at[t]), source);
            weigh_row(r, source, rows + place * n);
            held[place] = at[t];
        }
        const float *w = r->y.weights + y * taps;
        for (int64_t i = 0; i < n; i++) {
            double total = 0;
            for (int32_t t = 0; t < taps; t++)
                total += row[t][i] * (double)w[t];
            sum[i] = total;
        }
        we_pixels_from_f64(r->out->dtype, n, sum, we_image_row(r->out, y));
    }
    we_memory_free(scratch);
    return true;
}

/* ---- Linear, float32 ---- */

/* Four channels are computed at once, whatever the number: the next pixel goes over what is too much. */
static void lerp_pixels(const line *l, int64_t n, int64_t channels, const float *x, float *y) {
    if (channels == 1) {
        for (int64_t i = 0; i < n; i++)
            y[i] = x[l->at[2 * i]] * l->weights[2 * i] + x[l->at[2 * i + 1]] * l->weights[2 * i + 1];
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const float *a = x + l->at[2 * i] * channels, *b = x + l->at[2 * i + 1] * channels;
        float wa = l->weights[2 * i], wb = l->weights[2 * i + 1], sum[4];
        for (int c = 0; c < 4; c++)
            sum[c] = a[c] * wa + b[c] * wb;
        memcpy(y + i * channels, sum, sizeof sum);
    }
}

static bool linear_f32_rows(void *context, int64_t begin, int64_t end) {
    const resizing *r = context;
    int64_t channels = r->in->channels, n = r->out->width * channels, in_n = r->in->width * channels;
    float *source = we_memory_new_dirty((size_t)(in_n + 2 * n + 3 * 4) * sizeof *source);
    if (!source)
        return false;
    memset(source + in_n, 0, 4 * sizeof *source);
    float *rows[2] = {source + in_n + 4, source + in_n + n + 8};
    int64_t held[2] = {-1, -1};
    for (int64_t y = begin; y < end; y++) {
        const int32_t *at = r->y.at + 2 * y;
        const float *row[2];
        for (int t = 0; t < 2; t++) {
            int place = at[t] % 2;
            row[t] = rows[place];
            if (held[place] == at[t])
                continue;
            memcpy(source, we_image_row(r->in, at[t]), (size_t)in_n * sizeof *source);
            lerp_pixels(&r->x, r->out->width, channels, source, rows[place]);
            held[place] = at[t];
        }
        r->c->kernels->lerp_f32(n, row[0], row[1], r->y.weights[2 * y], r->y.weights[2 * y + 1],
                                (float *)(void *)we_image_row(r->out, y));
    }
    we_memory_free(source);
    return true;
}

/* ---- Bytes by 4 or 8 taps ---- */

typedef struct tapping {
    const we_imaging_call *c;
    const we_image *in, *out;
    int32_t taps;
    int32_t *x_at;    /* first bytes, of rows with MARGIN pixels more at either side */
    int16_t *x_pairs; /* as weigh_u8 wants them */
    int64_t *y_first; /* may lie outside the image */
    int16_t *y_weights;
} tapping;

enum { MARGIN = 2 * MOST_TAPS };

static void weights_of(float f, int32_t taps, int16_t *out) {
    float w[MOST_TAPS];
    (taps == 4 ? cubic_weights : lanczos_weights)(f, w);
    for (int32_t t = 0; t < taps; t++)
        out[t] = (int16_t)lrintf(w[t] * WEIGHT_ONE);
}

/* A row with its edge pixels repeated, so that all taps lie within it. */
static void widen_row(const we_image *in, int64_t y, uint8_t *to) {
    int64_t channels = in->channels, bytes = in->width * channels, margin = MARGIN * channels;
    const uint8_t *row = (const uint8_t *)we_image_row(in, y);
    memcpy(to + margin, row, (size_t)bytes);
    for (int64_t i = 0; i < MARGIN; i++) {
        memcpy(to + i * channels, row, (size_t)channels);
        memcpy(to + margin + bytes + i * channels, row + bytes - channels, (size_t)channels);
    }
}

static bool tapped_rows(void *context, int64_t begin, int64_t end) {
    const tapping *k = context;
    int64_t channels = k->in->channels, n = k->out->width * channels;
    size_t bytes = (size_t)((k->in->width + 2 * MARGIN) * channels + 16);
    int32_t *rows = we_memory_new_dirty((size_t)(k->taps * n) * sizeof *rows + bytes);
    if (!rows)
        return false;
    uint8_t *wide = (uint8_t *)(rows + k->taps * n);
    int64_t held[MOST_TAPS] = {-1, -1, -1, -1, -1, -1, -1, -1};
    for (int64_t y = begin; y < end; y++) {
        const int32_t *row[MOST_TAPS];
        for (int32_t t = 0; t < k->taps; t++) {
            int64_t from = within(k->y_first[y] + t, k->in->height), place = from % k->taps;
            row[t] = rows + place * n;
            if (held[place] == from)
                continue;
            widen_row(k->in, from, wide);
            k->c->kernels->weigh_u8(k->out->width, (int32_t)channels, k->taps, wide, k->x_at, k->x_pairs,
                                    rows + place * n);
            held[place] = from;
        }
        k->c->kernels->taps_i32_u8(n, k->taps, row, k->y_weights + y * k->taps,
                                   (uint8_t *)we_image_row(k->out, y));
    }
    we_memory_free(rows);
    return true;
}

static void tapping_fill(tapping *k, double scale_x, double scale_y) {
    int64_t width = k->out->width, whole;
    int16_t w[MOST_TAPS];
    for (int64_t i = 0; i < width; i++) {
        weights_of(position(i, scale_x, false, &whole), k->taps, w);
        for (int32_t t = 0; t < k->taps; t++)
            k->x_pairs[2 * (t / 2 * width + i) + t % 2] = w[t];
        int64_t first = whole + 1 - k->taps / 2, last = k->in->width + MARGIN - k->taps;
        first = first < -MARGIN ? -MARGIN : first > last ? last : first;
        k->x_at[i] = (int32_t)((first + MARGIN) * k->in->channels);
    }
    for (int64_t i = 0; i < k->out->height; i++) {
        weights_of(position(i, scale_y, false, &whole), k->taps, k->y_weights + i * k->taps);
        k->y_first[i] = whole + 1 - k->taps / 2;
    }
}

static we_status tapped_u8(const we_imaging_call *c, int32_t taps, double scale_x, double scale_y,
                           we_error *err) {
    size_t width = (size_t)c->out->width, height = (size_t)c->out->height;
    tapping k = {.c = c, .in = c->in, .out = c->out, .taps = taps};
    k.x_at = we_memory_new_dirty(width * sizeof *k.x_at);
    k.x_pairs = we_memory_new_dirty(width * (size_t)taps * sizeof *k.x_pairs);
    k.y_first = we_memory_new_dirty(height * sizeof *k.y_first);
    k.y_weights = we_memory_new_dirty(height * (size_t)taps * sizeof *k.y_weights);
    we_status status;
    if (k.x_at && k.x_pairs && k.y_first && k.y_weights) {
        tapping_fill(&k, scale_x, scale_y);
        status =
            we_imaging_rows(c, c->out->height, c->out->width * c->out->channels * taps, tapped_rows, &k, err);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(k.x_at);
    we_memory_free(k.x_pairs);
    we_memory_free(k.y_first);
    we_memory_free(k.y_weights);
    return status;
}

/* ---- Shrinking by area ---- */

typedef struct share { /* of a source position in a result position */
    int32_t from, to;
    float weight;
} share;

typedef struct shrinking {
    const we_image_kernels *kernels;
    const we_image *in, *out;
    share *x, *y;
    int64_t x_count;
    int64_t *x_first;         /* likewise of columns */
    int64_t *y_first;         /* shares of result row i: y_first[i] .. y_first[i + 1] */
    int64_t x_whole, y_whole; /* source pixels of a result pixel; 0: not whole */
} shrinking;

/* Source: OpenCV's computeResizeAreaTab. */
static int64_t area_shares(int64_t source, int64_t n, double scale, share *out, int64_t *first) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        double begin = (double)i * scale, end = begin + scale;
        double cell = fmin(scale, (double)source - begin);
        int64_t low = (int64_t)ceil(begin), high = (int64_t)floor(end);
        if (high > source - 1)
            high = source - 1;
        if (low > high)
            low = high;
        if (first)
            first[i] = count;
        if ((double)low - begin > 1e-3)
            out[count++] = (share){(int32_t)low - 1, (int32_t)i, (float)(((double)low - begin) / cell)};
        for (int64_t s = low; s < high; s++)
            out[count++] = (share){(int32_t)s, (int32_t)i, (float)(1.0 / cell)};
        if (end - (double)high > 1e-3)
            out[count++] =
                (share){(int32_t)high, (int32_t)i, (float)(fmin(fmin(end - (double)high, 1.), cell) / cell)};
    }
    if (first)
        first[n] = count;
    return count;
}

static void shrink_row(const shrinking *s, const void *row, float *y) {
    int64_t channels = s->in->channels;
    memset(y, 0, (size_t)(s->out->width * channels) * sizeof(float));
    WE_FOR_PIXELS(s->in->dtype, {
        const T *x = row;
        for (int64_t k = 0; k < s->x_count; k++) {
            const T *from = x + s->x[k].from * channels;
            float *to = y + s->x[k].to * channels;
            for (int64_t c = 0; c < channels; c++)
                to[c] += (float)from[c] * s->x[k].weight;
        }
    })
}

static bool shrink_rows(void *context, int64_t begin, int64_t end) {
    const shrinking *s = context;
    int64_t n = s->out->width * s->in->channels;
    float *scratch = we_memory_new_dirty((size_t)(2 * n) * sizeof(float) + (size_t)n * sizeof(double));
    if (!scratch)
        return false;
    double *wide = (double *)(void *)scratch;
    float *row = (float *)(void *)(wide + n), *sum = row + n;
    for (int64_t y = begin; y < end; y++) {
        for (int64_t k = s->y_first[y]; k < s->y_first[y + 1]; k++) {
            shrink_row(s, we_image_row(s->in, s->y[k].from), row);
            float weight = s->y[k].weight;
            for (int64_t i = 0; i < n; i++)
                sum[i] = k == s->y_first[y] ? weight * row[i] : sum[i] + weight * row[i];
        }
        for (int64_t i = 0; i < n; i++)
            wide[i] = sum[i];
        we_pixels_from_f64(s->out->dtype, n, wide, we_image_row(s->out, y));
    }
    we_memory_free(scratch);
    return true;
}

/* Bytes: down first, as that is the same for all columns. Channels as in lerp_pixels. */
static bool shrink_u8_rows(void *context, int64_t begin, int64_t end) {
    const shrinking *s = context;
    int64_t channels = s->in->channels, n = s->out->width * channels, in_n = s->in->width * channels;
    float *scratch = we_memory_new_dirty((size_t)(3 * (in_n + 4) + n + 4) * sizeof *scratch);
    if (!scratch)
        return false;
    float *sum = scratch, *next = sum + in_n + 4, *wide = next + in_n + 4, *made = wide + in_n + 4;
    memset(sum + in_n, 0, 4 * sizeof *sum);
    memset(next + in_n, 0, 4 * sizeof *sum);
    for (int64_t y = begin; y < end; y++) {
        for (int64_t k = s->y_first[y]; k < s->y_first[y + 1]; k++) {
            const float *pair[2] = {sum, wide}, weights[2] = {1, s->y[k].weight};
            s->kernels->widen_u8_f32(in_n, (const uint8_t *)we_image_row(s->in, s->y[k].from), wide);
            bool first = k == s->y_first[y];
            s->kernels->taps_f32(in_n, first ? 1 : 2, pair + first, weights + first, next);
            float *made_now = next;
            next = sum;
            sum = made_now;
        }
        for (int64_t i = 0; i < s->out->width; i++) {
            float total[4] = {0, 0, 0, 0};
            for (int64_t k = s->x_first[i]; k < s->x_first[i + 1]; k++) {
                const float *from = sum + s->x[k].from * channels;
                for (int c = 0; c < 4; c++)
                    total[c] += from[c] * s->x[k].weight;
            }
            memcpy(made + i * channels, total, sizeof total);
        }
        s->kernels->scale_f32_u8(n, made, 1, 0, 0, (uint8_t *)we_image_row(s->out, y));
    }
    we_memory_free(scratch);
    return true;
}

/* A whole number of source pixels for each of the result: exact sums of integers. */
static bool shrink_whole_rows(void *context, int64_t begin, int64_t end) {
    const shrinking *s = context;
    int64_t channels = s->in->channels, n = s->out->width * channels;
    double *sums = we_memory_new_dirty((size_t)n * sizeof(double));
    if (!sums)
        return false;
    float scale = 1.f / (float)(s->x_whole * s->y_whole);
    for (int64_t y = begin; y < end; y++) {
        memset(sums, 0, (size_t)n * sizeof(double));
        for (int64_t dy = 0; dy < s->y_whole; dy++) {
            WE_FOR_PIXELS(s->in->dtype, {
                const T *x = (const T *)(const void *)we_image_row(s->in, y * s->y_whole + dy);
                for (int64_t i = 0; i < s->out->width; i++) {
                    for (int64_t dx = 0; dx < s->x_whole; dx++) {
                        for (int64_t c = 0; c < channels; c++)
                            sums[i * channels + c] += (double)x[(i * s->x_whole + dx) * channels + c];
                    }
                }
            })
        }
        for (int64_t i = 0; i < n; i++)
            sums[i] = s->in->dtype == WE_F64 ? sums[i] * (double)scale : (double)((float)sums[i] * scale);
        we_pixels_from_f64(s->out->dtype, n, sums, we_image_row(s->out, y));
    }
    we_memory_free(sums);
    return true;
}

enum { MOST_WHOLE = 16 }; /* 16 * 16 bytes sum to no more than 16 bits hold */

static bool shrink_whole_u8_rows(void *context, int64_t begin, int64_t end) {
    const shrinking *s = context;
    int64_t n = s->out->width * s->x_whole * s->in->channels;
    uint16_t ones[MOST_WHOLE], *sums = we_memory_new_dirty((size_t)n * sizeof *sums);
    if (!sums)
        return false;
    for (int i = 0; i < MOST_WHOLE; i++)
        ones[i] = 1;
    float scale = 1.f / (float)(s->x_whole * s->y_whole);
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *rows[MOST_WHOLE];
        for (int64_t i = 0; i < s->y_whole; i++)
            rows[i] = (const uint8_t *)we_image_row(s->in, y * s->y_whole + i);
        s->kernels->taps_u8_u16(n, (int32_t)s->y_whole, rows, ones, sums);
        s->kernels->area_u16_u8(s->out->width, (int32_t)s->in->channels, (int32_t)s->x_whole, sums, scale,
                                (uint8_t *)we_image_row(s->out, y));
    }
    we_memory_free(sums);
    return true;
}

static we_status shrink(const we_imaging_call *c, double scale_x, double scale_y, we_error *err) {
    shrinking s = {.kernels = c->kernels, .in = c->in, .out = c->out};
    int64_t x_whole = (int64_t)lrint(scale_x), y_whole = (int64_t)lrint(scale_y);
    int64_t bytes = c->in->row < 0 ? -c->in->row : c->in->row;
    if (fabs(scale_x - (double)x_whole) < 2.3e-16 && fabs(scale_y - (double)y_whole) < 2.3e-16 &&
        s.out->width * x_whole <= s.in->width && s.out->height * y_whole <= s.in->height) {
        s.x_whole = x_whole;
        s.y_whole = y_whole;
        bool small = s.in->dtype == WE_U8 && x_whole <= MOST_WHOLE && y_whole <= MOST_WHOLE;
        return we_imaging_rows(c, s.out->height, bytes * y_whole,
                               small ? shrink_whole_u8_rows : shrink_whole_rows, &s, err);
    }
    s.x = we_memory_new((size_t)(s.in->width + 2 * s.out->width + 2) * sizeof(share));
    s.y = we_memory_new((size_t)(s.in->height + 2 * s.out->height + 2) * sizeof(share));
    s.x_first = we_memory_new((size_t)(s.out->width + 1) * sizeof(int64_t));
    s.y_first = we_memory_new((size_t)(s.out->height + 1) * sizeof(int64_t));
    we_status status = WE_OK;
    if (s.x && s.y && s.x_first && s.y_first) {
        bool small = s.in->dtype == WE_U8 && s.in->channels <= 4;
        s.x_count = area_shares(s.in->width, s.out->width, scale_x, s.x, s.x_first);
        area_shares(s.in->height, s.out->height, scale_y, s.y, s.y_first);
        status = we_imaging_rows(c, s.out->height, (int64_t)(scale_y + 1) * bytes,
                                 small ? shrink_u8_rows : shrink_rows, &s, err);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(s.x);
    we_memory_free(s.y);
    we_memory_free(s.x_first);
    we_memory_free(s.y_first);
    return status;
}

/* ---- The operations ---- */

static void resizing_free(resizing *r) {
    line_free(&r->x);
    line_free(&r->y);
    we_memory_free(r->x_pairs);
    we_memory_free(r->y_pairs);
    we_memory_free(r->x_at);
}

/* As resize makes bytes linearly, the same size included. */
we_status we_resize_bytes_to(const we_imaging_call *c, int64_t height, int64_t width, we_row_sink sink,
                             void *sink_context, we_error *err) {
    const we_image *in = c->in;
    we_image shape = {.height = height, .width = width, .channels = in->channels, .dtype = WE_U8};
    resizing r = {.c = c, .in = in, .out = &shape, .sink = sink, .sink_context = sink_context};
    if (in->height == 2 * height && in->width == 2 * width)
        return we_imaging_rows(c, height, 2 * in->width * in->channels, halve_rows, &r, err);
    we_status status;
    if (line_new(width, 2, &r.x) && line_new(height, 2, &r.y)) {
        line_fill(&r.x, false, width, in->width, (double)in->width / (double)width, false, true);
        line_fill(&r.y, true, height, in->height, (double)in->height / (double)height, false, true);
        status = linear_u8(&r, err);
    } else {
        status = we_error_no_memory(err);
    }
    resizing_free(&r);
    return status;
}

/* Numbers: interpolation, source pixels per result pixel across and down. */
we_status we_imaging_resize(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *out = c->out;
    int64_t how = 0;
    WE_TRY(we_image_expect(in, WE_PIXELS | (c->p[0] == NEAREST ? WE_ANY_PIXELS : 0), "resize", err));
    WE_TRY(we_number_within(c->p[0], NEAREST, LANCZOS, "the interpolation", &how, err));
    double scale_x = c->p[1], scale_y = c->p[2];
    if (we_image_is_empty(in) || we_image_is_empty(out) || in->channels != out->channels ||
        in->dtype != out->dtype || !(scale_x > 0 && scale_y > 0 && scale_x < 1e9 && scale_y < 1e9))
        return we_error_set(err, WE_INVALID_ARGUMENT, "resize needs an image and a size that are not empty");
    if (in->height == out->height && in->width == out->width) {
        for (int64_t y = 0; y < out->height; y++)
            memcpy(we_image_row(out, y), we_image_row(in, y),
                   (size_t)(out->width * out->channels) * we_image_size(in));
        return WE_OK;
    }
    bool halves =
        scale_x == 2 && scale_y == 2 && 2 * out->width <= in->width + 1 && 2 * out->height <= in->height + 1;
    if (how == LINEAR && halves)
        how = AREA; /* as OpenCV has it */
    resizing r = {.c = c, .in = in, .out = out};
    if (how == AREA && scale_x >= 1 && scale_y >= 1) {
        if (halves && in->dtype == WE_U8)
            return we_imaging_rows(c, out->height, 2 * in->width * in->channels, halve_rows, &r, err);
        return shrink(c, scale_x, scale_y, err);
    }
    int32_t taps = how == NEAREST ? 1 : how == CUBIC ? 4 : how == LANCZOS ? 8 : 2;
    bool bytes = in->dtype == WE_U8;
    if (bytes && taps > 2)
        return tapped_u8(c, taps, scale_x, scale_y, err);
    we_status status;
    if (!line_new(out->width, taps, &r.x) || !line_new(out->height, taps, &r.y)) {
        status = we_error_no_memory(err);
    } else if (how == NEAREST) {
        int64_t size = in->channels * (int64_t)we_image_size(in);
        for (int64_t i = 0; i < out->width; i++)
            r.x.at[i] = (int32_t)(within((int64_t)floor((double)i * scale_x), in->width) * size);
        for (int64_t i = 0; i < out->height; i++)
            r.y.at[i] = (int32_t)within((int64_t)floor((double)i * scale_y), in->height);
        status = we_imaging_rows(c, out->height, out->width * size, nearest_rows, &r, err);
    } else {
        line_fill(&r.x, false, out->width, in->width, scale_x, how == AREA, bytes);
        line_fill(&r.y, true, out->height, in->height, scale_y, how == AREA, bytes);
        bool floats = in->dtype == WE_F32 && taps == 2 && in->channels <= 4;
        status = bytes ? linear_u8(&r, err)
                       : we_imaging_rows(c, out->height, out->width * out->channels * (floats ? 4 : 16),
                                         floats ? linear_f32_rows : weighted_rows, &r, err);
    }
    resizing_free(&r);
    return status;
}
