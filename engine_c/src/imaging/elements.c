/* Elements one by one: arithmetic, tables, thresholds. */
#include "imaging/imaging.h"

typedef struct elements {
    const we_imaging_call *c;
    const double *p;
    int64_t n;        /* elements of a row */
    const void *data; /* of the operation's own */
} elements;

/* How many rows can count as one, all images being packed: as many as divide their number and make up about
 * LONG_ROW bytes. Short rows cost more than they hold. */
static int64_t rows_in_one(const we_imaging_call *c) {
    enum { LONG_ROW = 1 << 16 };
    const we_image *in = c->in;
    for (size_t i = 0; i < c->in_count + 1; i++) {
        const we_image *image = i < c->in_count ? &in[i] : c->out;
        if (image->height == in->height && image->width == in->width &&
            image->row != image->width * image->channels * (int64_t)we_image_size(image))
            return 1;
    }
    int64_t row = in->width * in->channels * (int64_t)we_image_size(in) + 1;
    int64_t most = c->pool ? in->height / we_pool_threads(c->pool) : in->height, rows = LONG_ROW / row;
    rows = rows < most ? rows : most;
    while (rows > 1 && in->height % rows != 0)
        rows--;
    return rows > 1 ? rows : 1;
}

static void join_rows(we_image *image, int64_t rows) {
    image->height /= rows;
    image->width *= rows;
    image->row *= rows;
}

/* Rows of an operation that looks at each pixel alone. An input of another size is a table, and left as it
 * is. */
static we_status share(const we_imaging_call *c, we_rows_work rows, const void *data, we_error *err) {
    int64_t one = rows_in_one(c);
    we_image in[2] = {c->in[0], c->in[c->in_count - 1]}, out = *c->out;
    we_imaging_call joined = *c;
    joined.in = in;
    joined.out = &out;
    if (in[1].height == in[0].height && in[1].width == in[0].width)
        join_rows(&in[1], one);
    join_rows(&in[0], one);
    join_rows(&out, one);
    int64_t n = in->width * in->channels;
    elements e = {&joined, c->p, n, data};
    return we_imaging_rows(c, in->height, n * (int64_t)we_image_size(in), rows, &e, err);
}

/* ---- Two images ---- */

static bool blend_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const we_image *in = e->c->in;
    double alpha = e->p[0], beta = e->p[1], gamma = e->p[2];
    if (in->dtype == WE_U8) {
        for (int64_t y = begin; y < end; y++)
            e->c->kernels->blend_u8(e->n, (const uint8_t *)we_image_row(in, y),
                                    (const uint8_t *)we_image_row(in + 1, y), (float)alpha, (float)beta,
                                    (float)gamma, (uint8_t *)we_image_row(e->c->out, y));
        return true;
    }
    double *a = we_memory_new_dirty((size_t)e->n * 2 * sizeof(double));
    if (!a)
        return false;
    double *b = a + e->n;
    for (int64_t y = begin; y < end; y++) {
        we_pixels_to_f64(in->dtype, e->n, we_image_row(in, y), a);
        we_pixels_to_f64(in->dtype, e->n, we_image_row(in + 1, y), b);
        for (int64_t i = 0; i < e->n; i++)
            a[i] = a[i] * alpha + b[i] * beta + gamma;
        we_pixels_from_f64(in->dtype, e->n, a, we_image_row(e->c->out, y));
    }
    we_memory_free(a);
    return true;
}

static we_status expect_pair(const we_imaging_call *c, const char *what, we_error *err) {
    WE_TRY(we_image_expect(c->in, WE_ANY_PIXELS, what, err));
    for (size_t i = 1; i < c->in_count; i++)
        WE_TRY(we_image_expect_like(&c->in[i], c->in, what, err));
    return we_image_expect_like(c->out, c->in, what, err);
}

/* Numbers: weights of both, and what is added. */
we_status we_imaging_blend(const we_imaging_call *c, we_error *err) {
    WE_TRY(expect_pair(c, "addWeighted", err));
    return share(c, blend_rows, NULL, err);
}

#define LOOP(formula)                                                                                        \
    for (int64_t i = 0; i < n; i++)                                                                          \
    y[i] = (T)(formula)

static void numbers_row(int fn, we_dtype dtype, int64_t n, const void *x, const void *z, void *out) {
    WE_FOR_PIXELS(dtype, {
        const T *a = x;
        const T *b = z;
        T *y = out;
        switch (fn) {
        case WE_POINTWISE_ABSDIFF:
            LOOP(we_pixel_saturate(dtype, fabs((double)a[i] - (double)b[i])));
            break;
        case WE_POINTWISE_ADD:
            LOOP(we_pixel_saturate(dtype, (double)a[i] + (double)b[i]));
            break;
        case WE_POINTWISE_SUBTRACT:
            LOOP(we_pixel_saturate(dtype, (double)a[i] - (double)b[i]));
            break;
        case WE_POINTWISE_LEAST:
            LOOP(b[i] < a[i] ? b[i] : a[i]);
            break;
        default:
            LOOP(b[i] > a[i] ? b[i] : a[i]);
        }
    })
}

static bool pointwise_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const we_image *in = e->c->in;
    int fn = (int)e->p[0];
    for (int64_t y = begin; y < end; y++) {
        const void *a = we_image_row(in, y), *b = e->c->in_count > 1 ? we_image_row(in + 1, y) : a;
        void *to = we_image_row(e->c->out, y);
        if (fn <= WE_POINTWISE_NOT || in->dtype == WE_U8)
            e->c->kernels->pointwise_u8(fn, e->n * (int64_t)we_image_size(in), a, b, to);
        else
            numbers_row(fn, in->dtype, e->n, a, b, to);
    }
    return true;
}

/* Numbers: the function. */
we_status we_imaging_pointwise(const we_imaging_call *c, we_error *err) {
    int64_t fn = 0;
    WE_TRY(we_number_within(c->p[0], 0, WE_POINTWISE_COUNT - 1, "the function", &fn, err));
    WE_TRY(expect_pair(c, "this operation", err));
    if ((fn == WE_POINTWISE_NOT) != (c->in_count == 1))
        return we_error_set(err, WE_INVALID_ARGUMENT, "this operation takes %s",
                            fn == WE_POINTWISE_NOT ? "one image" : "two images");
    return share(c, pointwise_rows, NULL, err);
}

/* ---- Scale and shift ---- */

/* Those between bytes and float32 that have a kernel. */
static bool convert_fast(const elements *e, const void *x, void *y) {
    const we_image_kernels *k = e->c->kernels;
    we_dtype from = e->c->in->dtype, to = e->c->out->dtype;
    float scale = (float)e->p[0], shift = (float)e->p[1];
    bool magnitude = e->p[2] != 0;
    if (from == WE_U8 && to == WE_U8)
        k->scale_u8(e->n, x, scale, shift, magnitude, y);
    else if (from == WE_F32 && to == WE_U8)
        k->scale_f32_u8(e->n, x, scale, shift, magnitude, y);
    else if (from == WE_U8 && to == WE_F32 && !magnitude)
        k->scale_u8_f32(e->n, x, scale, shift, y);
    else
        return false;
    return true;
}

static bool convert_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const we_image *in = e->c->in, *out = e->c->out;
    double scale = e->p[0], shift = e->p[1];
    bool magnitude = e->p[2] != 0;
    double *wide = we_memory_new_dirty((size_t)e->n * sizeof(double));
    if (!wide)
        return false;
    for (int64_t y = begin; y < end; y++) {
        void *to = we_image_row(out, y);
        if (convert_fast(e, we_image_row(in, y), to))
            continue;
        we_pixels_to_f64(in->dtype, e->n, we_image_row(in, y), wide);
        if (in->dtype == WE_F64 || in->dtype == WE_I32 || out->dtype == WE_F64) {
            for (int64_t i = 0; i < e->n; i++)
                wide[i] = wide[i] * scale + shift;
        } else { /* OpenCV computes these in float32 */
            for (int64_t i = 0; i < e->n; i++)
                wide[i] = (double)((float)wide[i] * (float)scale + (float)shift);
        }
        for (int64_t i = 0; magnitude && i < e->n; i++)
            wide[i] = fabs(wide[i]);
        we_pixels_from_f64(out->dtype, e->n, wide, to);
    }
    we_memory_free(wide);
    return true;
}

/* Numbers: scale, shift, whether magnitudes are taken. */
we_status we_imaging_convert(const we_imaging_call *c, we_error *err) {
    WE_TRY(we_image_expect(c->in, WE_ANY_PIXELS, "a conversion", err));
    WE_TRY(we_image_expect(c->out, WE_ANY_PIXELS, "a conversion", err));
    WE_TRY(we_image_expect_size(c->out, c->in, "a conversion", err));
    return share(c, convert_rows, NULL, err);
}

/* ---- Tables ---- */

static bool lut_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const we_image *in = e->c->in, *out = e->c->out, *table = e->c->in + 1;
    int64_t channels = in->channels;
    bool one = table->channels == 1;
    int flip = in->dtype == WE_I8 ? 128 : 0;
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *x = (const uint8_t *)we_image_row(in, y);
        if (one && in->dtype == WE_U8 && out->dtype == WE_U8) {
            e->c->kernels->lut_u8(e->n, x, table->data, (uint8_t *)we_image_row(out, y));
            continue;
        }
        WE_FOR_PIXELS(out->dtype, {
            const T *from = table->data;
            T *to = (T *)(void *)we_image_row(out, y);
            if (one) {
                for (int64_t i = 0; i < e->n; i++)
                    to[i] = from[x[i] ^ flip];
            } else {
                for (int64_t i = 0; i < in->width; i++) {
                    for (int64_t c = 0; c < channels; c++)
                        to[i * channels + c] = from[(x[i * channels + c] ^ flip) * channels + c];
                }
            }
        })
    }
    return true;
}

/* Inputs: image of bytes, table of 256 elements of one channel or of as many as the image. */
we_status we_imaging_lut(const we_imaging_call *c, we_error *err) {
    const we_image *table = c->in + 1;
    WE_TRY(we_image_expect(c->in, WE_TYPE(U8) | WE_TYPE(I8), "LUT", err));
    WE_TRY(we_image_expect(table, WE_ANY_PIXELS, "LUT", err));
    WE_TRY(we_image_expect_size(c->out, c->in, "LUT", err));
    bool packed =
        table->row == table->width * table->channels * (int64_t)we_image_size(table) || table->height == 1;
    if (table->height * table->width != 256 || !packed || table->dtype != c->out->dtype ||
        (table->channels != 1 && table->channels != c->in->channels))
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "a table has 256 elements, of one channel or of as many as the image");
    return share(c, lut_rows, NULL, err);
}

static bool range_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const we_image *in = e->c->in;
    int64_t channels = in->channels;
    const double *low = e->data, *high = low + channels;
    for (int64_t y = begin; y < end; y++) {
        uint8_t *to = (uint8_t *)we_image_row(e->c->out, y);
        WE_FOR_PIXELS(in->dtype, {
            const T *x = (const T *)(const void *)we_image_row(in, y);
            for (int64_t i = 0; i < in->width; i++) {
                int inside = 1;
                for (int64_t c = 0; c < channels; c++)
                    inside &= (double)x[i * channels + c] >= low[c] && (double)x[i * channels + c] <= high[c];
                to[i] = (uint8_t)-inside;
            }
        })
    }
    return true;
}

static bool range_u8_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const uint8_t *bounds = e->data;
    for (int64_t y = begin; y < end; y++)
        e->c->kernels->range_u8(e->c->in->width, (int32_t)e->c->in->channels,
                                (const uint8_t *)we_image_row(e->c->in, y), bounds, bounds + 32,
                                (uint8_t *)we_image_row(e->c->out, y));
    return true;
}

static we_status fill(const we_image *image, double value, we_error *err) {
    double *row = we_memory_new_dirty((size_t)(image->width * image->channels) * sizeof(double) + 1);
    if (!row)
        return we_error_no_memory(err);
    for (int64_t i = 0; i < image->width * image->channels; i++)
        row[i] = value;
    for (int64_t y = 0; y < image->height; y++)
        we_pixels_from_f64(image->dtype, image->width * image->channels, row, we_image_row(image, y));
    we_memory_free(row);
    return WE_OK;
}

/* Numbers: the least of each channel, then the most. */
we_status we_imaging_in_range(const we_imaging_call *c, we_error *err) {
    const we_image *out = c->out;
    WE_TRY(we_image_expect(c->in, WE_ANY_PIXELS, "inRange", err));
    WE_TRY(we_image_expect(out, WE_TYPE(U8), "inRange", err));
    int64_t channels = c->in->channels;
    if ((int64_t)c->number_count != 2 * channels || out->channels != 1 || out->height != c->in->height ||
        out->width != c->in->width)
        return we_error_set(err, WE_INVALID_ARGUMENT, "inRange takes two bounds for each of %lld channels",
                            (long long)channels);
    double bounds[64];
    uint8_t bytes[64] = {0};
    bool whole = c->in->dtype != WE_F32 && c->in->dtype != WE_F64;
    for (size_t i = 0; i < c->number_count; i++)
        bounds[i] = whole ? rint(c->p[i]) : c->in->dtype == WE_F32 ? (double)(float)c->p[i] : c->p[i];
    if (c->in->dtype != WE_U8)
        return share(c, range_rows, bounds, err);
    for (int64_t i = 0; i < channels; i++) {
        double low = fmax(0, bounds[i]), high = fmin(255, bounds[channels + i]);
        if (!(low <= high) || isnan(c->p[i]) || isnan(c->p[channels + i]))
            return fill(out, 0, err); /* nothing is within */
        bytes[i] = (uint8_t)low;
        bytes[32 + i] = (uint8_t)high;
    }
    return share(c, range_u8_rows, bytes, err);
}

/* ---- Thresholds ---- */

static bool threshold_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const we_image *in = e->c->in;
    int type = (int)e->p[2];
    const double *numbers = e->data;
    for (int64_t r = begin; r < end; r++) {
        if (in->dtype == WE_U8) {
            e->c->kernels->threshold_u8(type, e->n, (const uint8_t *)we_image_row(in, r), (uint8_t)numbers[0],
                                        (uint8_t)numbers[1], (uint8_t *)we_image_row(e->c->out, r));
            continue;
        }
        WE_FOR_PIXELS(in->dtype, {
            const T *x = (const T *)(const void *)we_image_row(in, r);
            T *y = (T *)(void *)we_image_row(e->c->out, r);
            int64_t n = e->n;
            T limit = (T)numbers[0];
            T most = (T)numbers[1];
            switch (type) {
            case WE_THRESHOLD_BINARY:
                LOOP(x[i] > limit ? most : 0);
                break;
            case WE_THRESHOLD_BINARY_INV:
                LOOP(x[i] > limit ? 0 : most);
                break;
            case WE_THRESHOLD_TRUNCATE:
                LOOP(x[i] > limit ? limit : x[i]);
                break;
            case WE_THRESHOLD_TO_ZERO:
                LOOP(x[i] > limit ? x[i] : 0);
                break;
            default:
                LOOP(x[i] > limit ? 0 : x[i]);
            }
        })
    }
    return true;
}

/* Numbers: limit, the value for those above, type. */
we_status we_imaging_threshold(const we_imaging_call *c, we_error *err) {
    int64_t type = 0;
    WE_TRY(we_image_expect(c->in, WE_PIXELS, "threshold", err));
    WE_TRY(we_image_expect_like(c->out, c->in, "threshold", err));
    WE_TRY(we_number_within(c->p[2], WE_THRESHOLD_BINARY, WE_THRESHOLD_TO_ZERO_INV,
                            "the type of the threshold", &type, err));
    if (isnan(c->p[0]) || isnan(c->p[1]))
        return we_error_set(err, WE_INVALID_ARGUMENT, "the limit of a threshold is no number");
    bool whole = c->in->dtype != WE_F32 && c->in->dtype != WE_F64;
    double limit = whole ? floor(c->p[0]) : c->p[0], most = we_pixel_saturate(c->in->dtype, c->p[1]);
    double kept = we_pixel_saturate(c->in->dtype, limit);
    if (kept > limit) { /* all are above it */
        if (type == WE_THRESHOLD_TO_ZERO)
            return we_imaging_pointwise(&(we_imaging_call){.in = (we_image[]){c->in[0], c->in[0]},
                                                           .out = c->out,
                                                           .in_count = 2,
                                                           .number_count = 1,
                                                           .p = (double[]){WE_POINTWISE_LEAST},
                                                           .kernels = c->kernels,
                                                           .pool = c->pool},
                                        err);
        return fill(c->out,
                    type == WE_THRESHOLD_BINARY     ? most
                    : type == WE_THRESHOLD_TRUNCATE ? kept
                                                    : 0,
                    err);
    }
    double numbers[2] = {kept, most};
    return share(c, threshold_rows, numbers, err);
}

static bool threshold_by_rows(void *context, int64_t begin, int64_t end) {
    const elements *e = context;
    const int *data = e->data;
    for (int64_t y = begin; y < end; y++)
        e->c->kernels->threshold_by_u8(
            e->n, (const uint8_t *)we_image_row(e->c->in, y), (const uint8_t *)we_image_row(e->c->in + 1, y),
            (int16_t)data[0], (uint8_t)data[1], (uint8_t)data[2], (uint8_t *)we_image_row(e->c->out, y));
    return true;
}

/* Inputs: image, its limits. Numbers: what is taken off each limit, the value for those above, 0 or 1 for
 * inverse. */
we_status we_imaging_threshold_by(const we_imaging_call *c, we_error *err) {
    WE_TRY(we_image_expect(c->in, WE_TYPE(U8), "adaptiveThreshold", err));
    WE_TRY(expect_pair(c, "adaptiveThreshold", err));
    if (!isfinite(c->p[0]) || !isfinite(c->p[1]))
        return we_error_set(err, WE_INVALID_ARGUMENT, "adaptiveThreshold takes finite numbers");
    int most = (int)we_pixel_saturate(WE_U8, c->p[1]);
    bool inverse = c->p[2] != 0;
    double off = inverse ? floor(c->p[0]) : ceil(c->p[0]); /* differences lie from -255 to 255 */
    int data[3] = {(int)fmax(-256, fmin(255, -off)), inverse ? 0 : most, inverse ? most : 0};
    return share(c, threshold_by_rows, data, err);
}
