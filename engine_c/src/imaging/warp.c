/* Pixels read where a map says: affine and perspective maps and maps given pixel by pixel. */
#include "imaging/imaging.h"

enum { NEAREST, LINEAR, STRIP = 256 };

typedef struct warping {
    const we_image *in, *out, *map_x, *map_y; /* map_y: NULL where map_x holds both */
    const we_image_kernels *kernels;
    const double *m;        /* 2 x 3 or 3 x 3, result to source; NULL where there are maps */
    bool perspective, fits; /* fits: offsets of pixels are no more than 31 bits */
    we_image_grid grid;
    int how, border;
    double constant[4];               /* per channel, the last for all further ones */
    char elements[4][sizeof(double)]; /* the same as elements of the image */
} warping;

/* Places a strip of result pixels reads, in pixels of the source. */
typedef struct places {
    float x[STRIP], y[STRIP];
} places;

static void places_of_maps(const warping *w, int64_t x0, int64_t y, int64_t n, places *out) {
    if (w->map_y) {
        memcpy(out->x, we_image_row(w->map_x, y) + x0 * 4, (size_t)n * 4);
        memcpy(out->y, we_image_row(w->map_y, y) + x0 * 4, (size_t)n * 4);
    } else if (w->map_x->dtype == WE_I16) {
        const int16_t *map = (const int16_t *)(const void *)we_image_row(w->map_x, y) + 2 * x0;
        for (int64_t i = 0; i < n; i++) {
            out->x[i] = map[2 * i];
            out->y[i] = map[2 * i + 1];
        }
    } else {
        const float *map = (const float *)(const void *)we_image_row(w->map_x, y) + 2 * x0;
        for (int64_t i = 0; i < n; i++) {
            out->x[i] = map[2 * i];
            out->y[i] = map[2 * i + 1];
        }
    }
}

/* Far outside is all the same; NaN, too, is outside. */
static int32_t whole_of(float v) {
    return v >= -1e9f && v <= 1e9f ? (int32_t)floorf(v) : -1000000000;
}

static const char *pixel_at(const warping *w, int64_t x, int64_t y) {
    x = we_border_at(x, w->in->width, w->border);
    y = we_border_at(y, w->in->height, w->border);
    return x < 0 || y < 0 ? NULL
                          : we_image_row(w->in, y) + x * w->in->channels * (int64_t)we_image_size(w->in);
}

/* we_border_at, for what mostly lies inside or has a constant round it. */
static int64_t border_at(const warping *w, int64_t p, int64_t n) {
    if ((uint64_t)p < (uint64_t)n)
        return p;
    return w->border == WE_BORDER_CONSTANT ? -1 : we_border_at(p, n, w->border);
}

/* The four pixels at and behind (x, y); NULL for those the border has none for. */
static void corners_at(const warping *w, int64_t x, int64_t y, const char *out[4]) {
    int64_t size = w->in->channels * (int64_t)we_image_size(w->in);
    for (int k = 0; k < 2; k++) {
        int64_t row = border_at(w, y + k, w->in->height);
        out[2 * k] = out[2 * k + 1] = row < 0 ? NULL : we_image_row(w->in, row);
    }
    for (int k = 0; k < 2; k++) {
        int64_t column = border_at(w, x + k, w->in->width);
        for (int i = k; i < 4; i += 2)
            out[i] = out[i] && column >= 0 ? out[i] + column * size : NULL;
    }
}

static double constant_of(const warping *w, int64_t channel) {
    return w->constant[channel < 4 ? channel : 3];
}

/* Inside, at an edge or outside: what `corners` and `spots` say of a place. */
static int32_t kind_of(int32_t at) {
    return at > WE_EDGE ? 0 : at;
}

/* Pixels i to the end of those whose place is of one kind. Most runs are long: sixteen are looked at at once.
 */
static int64_t run_end(const int32_t *at, int64_t i, int64_t n) {
    int32_t kind = kind_of(at[i]);
    for (; i + 16 <= n; i += 16) {
        int32_t others = 0;
        for (int j = 0; j < 16; j++)
            others |= kind_of(at[i + j]) ^ kind;
        if (others)
            break;
    }
    while (i < n && kind_of(at[i]) == kind)
        i++;
    return i;
}

static void constant_run(const warping *w, int64_t n, char *to) {
    int64_t size = (int64_t)we_image_size(w->in), bytes = n * w->in->channels * size;
    for (int64_t c = 0; c < w->in->channels; c++)
        memcpy(to + c * size, w->elements[c < 4 ? c : 3], (size_t)size);
    for (int64_t made = w->in->channels * size; made < bytes; made *= 2) /* twice as many each time */
        memcpy(to + made, to, (size_t)(made < bytes - made ? made : bytes - made));
}

static int32_t nearest_of(float v) {
    return v >= -1e9f && v <= 1e9f ? (int32_t)lrintf(v) : -1000000000;
}

/* One pixel that may lie outside. */
static void nearest_edge(const warping *w, float x, float y, char *to) {
    int64_t size = (int64_t)we_image_size(w->in), sx = nearest_of(x), sy = nearest_of(y);
    const char *from = pixel_at(w, sx, sy);
    if (from)
        memcpy(to, from, (size_t)(w->in->channels * size));
    else if (w->border == WE_BORDER_CONSTANT)
        constant_run(w, 1, to);
}

static void nearest_strip_far(const warping *w, const places *p, int64_t n, char *y) {
    int64_t size = w->in->channels * (int64_t)we_image_size(w->in);
    for (int64_t i = 0; i < n; i++)
        nearest_edge(w, p->x[i], p->y[i], y + i * size);
}

static void nearest_strip(const warping *w, const places *p, int64_t n, char *y) {
    int32_t at[STRIP];
    int64_t size = w->in->channels * (int64_t)we_image_size(w->in);
    const char *x = w->in->data;
    w->kernels->spots(n, p->x, p->y, &w->grid, at);
    for (int64_t i = 0, end; i < n; i = end) {
        end = run_end(at, i, n);
#define NEAREST_OF(bytes)                                                                                    \
    for (int64_t j = i; j < end; j++)                                                                        \
    memcpy(y + j * size, x + at[j], (size_t)(bytes))
        if (at[i] == WE_OUTSIDE && w->border == WE_BORDER_CONSTANT)
            constant_run(w, end - i, y + i * size);
        else if (at[i] == WE_OUTSIDE)
            for (int64_t j = i; j < end; j++)
                nearest_edge(w, p->x[j], p->y[j], y + j * size);
        else if (size == 1)
            NEAREST_OF(1);
        else if (size == 3)
            NEAREST_OF(3);
        else if (size == 4)
            NEAREST_OF(4);
        else
            NEAREST_OF(size);
#undef NEAREST_OF
    }
}

/* One pixel near or beyond an edge, whatever its type. */
static void linear_edge(const warping *w, int32_t sx, int32_t sy, float fx, float fy, char *y) {
    int64_t size = (int64_t)we_image_size(w->in);
    const char *corner[4];
    corners_at(w, sx, sy, corner);
    if (w->border == WE_BORDER_TRANSPARENT && !(corner[0] && corner[1] && corner[2] && corner[3]))
        return;
    for (int64_t c = 0; c < w->in->channels; c++) {
        double v[4];
        for (int k = 0; k < 4; k++) {
            v[k] = constant_of(w, c);
            if (corner[k])
                we_pixels_to_f64(w->in->dtype, 1, corner[k] + c * size, &v[k]);
        }
        double top = v[0] + (double)fx * (v[1] - v[0]), bottom = v[2] + (double)fx * (v[3] - v[2]);
        double value = top + (double)fy * (bottom - top);
        we_pixels_from_f64(w->in->dtype, 1, &value, y + c * size);
    }
}

#define SAME(v) (v)

#define LINEAR_INSIDE(name, T, F, channels_, round)                                                          \
    static void name(const char *x, int64_t row, int64_t channels, F fx, F fy, char *y) {                    \
        (void)channels;                                                                                      \
        const T *a = (const T *)(const void *)x, *b = (const T *)(const void *)(x + row);                    \
        for (int64_t c = 0; c < (channels_); c++) {                                                          \
            F top = (F)a[c] + fx * ((F)a[c + (channels_)] - (F)a[c]);                                        \
            F bottom = (F)b[c] + fx * ((F)b[c + (channels_)] - (F)b[c]);                                     \
            ((T *)(void *)y)[c] = round(top + fy * (bottom - top));                                          \
        }                                                                                                    \
    }
LINEAR_INSIDE(inside_f32_1, float, float, 1, SAME)
LINEAR_INSIDE(inside_f32_3, float, float, 3, SAME)

typedef void (*inside_function)(const char *x, int64_t row, int64_t channels, float fx, float fy, char *y);

static inside_function inside_of(const we_image *image) {
    if (image->dtype == WE_F32)
        return image->channels == 1 ? inside_f32_1 : image->channels == 3 ? inside_f32_3 : NULL;
    return NULL;
}

/* Places whose offsets fit are found by vectors; the parts of inside places need no floor. */
static void linear_strip_fit(const warping *w, const places *p, int64_t n, char *y) {
    int32_t at[STRIP];
    int16_t top[2 * STRIP], bottom[2 * STRIP];
    int64_t size = w->in->channels * (int64_t)we_image_size(w->in);
    inside_function inside = inside_of(w->in);
    w->kernels->corners(n, p->x, p->y, &w->grid, at, top, bottom);
    for (int64_t i = 0; i < n; i++) {
        if (at[i] > WE_EDGE) {
            float fx = p->x[i] - (float)(int32_t)p->x[i], fy = p->y[i] - (float)(int32_t)p->y[i];
            inside((const char *)w->in->data + at[i], w->in->row, w->in->channels, fx, fy, y + i * size);
            continue;
        }
        int32_t sx = whole_of(p->x[i]), sy = whole_of(p->y[i]);
        float fx = p->x[i] - (float)sx, fy = p->y[i] - (float)sy;
        linear_edge(w, sx, sy, fx >= 0 && fx <= 1 ? fx : 0, fy >= 0 && fy <= 1 ? fy : 0, y + i * size);
    }
}

static void linear_strip(const warping *w, const places *p, int64_t n, char *y) {
    int64_t size = w->in->channels * (int64_t)we_image_size(w->in);
    inside_function inside = inside_of(w->in);
    uint64_t last_x = (uint64_t)w->in->width - 1, last_y = (uint64_t)w->in->height - 1;
    for (int64_t i = 0; i < n; i++) {
        int32_t sx = whole_of(p->x[i]), sy = whole_of(p->y[i]);
        float fx = p->x[i] - (float)sx, fy = p->y[i] - (float)sy;
        if (inside && (uint64_t)sx < last_x && (uint64_t)sy < last_y)
            inside(we_image_row(w->in, sy) + sx * size, w->in->row, w->in->channels, fx, fy, y + i * size);
        else
            linear_edge(w, sx, sy, fx >= 0 && fx <= 1 ? fx : 0, fy >= 0 && fy <= 1 ? fy : 0, y + i * size);
    }
}

/* ---- Linear, bytes ---- */

/* One pixel at or beyond an edge. */
static void edge_u8(const warping *w, float x, float y, const int16_t *top, const int16_t *bottom,
                    uint8_t *to) {
    const char *corner[4];
    corners_at(w, whole_of(x), whole_of(y), corner);
    if (w->border == WE_BORDER_TRANSPARENT && !(corner[0] && corner[1] && corner[2] && corner[3]))
        return;
    const int32_t weights[4] = {top[0], top[1], bottom[0], bottom[1]};
    for (int64_t c = 0; c < w->in->channels; c++) {
        int32_t sum = 1 << 13;
        for (int k = 0; k < 4; k++)
            sum += weights[k] * (corner[k] ? (uint8_t)corner[k][c] : (int32_t)constant_of(w, c));
        to[c] = (uint8_t)(sum >> 14);
    }
}

static void linear_strip_u8(const warping *w, const places *p, int64_t n, char *y) {
    int32_t at[STRIP], channels = (int32_t)w->in->channels;
    int16_t top[2 * STRIP], bottom[2 * STRIP];
    w->kernels->corners(n, p->x, p->y, &w->grid, at, top, bottom);
    for (int64_t i = 0, end; i < n; i = end) {
        end = run_end(at, i, n);
        uint8_t *to = (uint8_t *)y + i * channels;
        if (at[i] > WE_EDGE) {
            w->kernels->bilinear_u8(end - i, channels, w->in->data, w->in->row, at + i, top + 2 * i,
                                    bottom + 2 * i, to);
        } else if (at[i] == WE_OUTSIDE && w->border == WE_BORDER_CONSTANT) {
            constant_run(w, end - i, (char *)to);
        } else {
            for (int64_t j = i; j < end; j++)
                edge_u8(w, p->x[j], p->y[j], top + 2 * j, bottom + 2 * j, (uint8_t *)y + j * channels);
        }
    }
}

/* May pixels be read by offsets of 31 bits, 16 bytes at a time? */
static bool fits_grid(const we_image *in, we_image_grid *out) {
    enum { READ = 16 };
    int64_t pixel = in->channels * (int64_t)we_image_size(in), width = in->width * pixel;
    int64_t below = in->row > 0 ? (in->height - 1) * in->row : 0;
    int64_t size = width + (in->height - 1) * (in->row < 0 ? -in->row : in->row);
    if (in->height > INT32_MAX / 2 || in->width > INT32_MAX / 2 || size > INT32_MAX / 2)
        return false;
    *out = (we_image_grid){(int32_t)in->width, (int32_t)in->height, (int32_t)in->row, (int32_t)pixel,
                           (int32_t)(width + below - READ - (in->row > 0 ? in->row : 0))};
    return true;
}

static bool warp_rows(void *context, int64_t begin, int64_t end) {
    const warping *w = context;
    places p;
    int64_t size = w->in->channels * (int64_t)we_image_size(w->in);
    bool bytes = w->in->dtype == WE_U8;
    void (*strip)(const warping *, const places *, int64_t, char *) =
        w->how == NEAREST             ? (w->fits ? nearest_strip : nearest_strip_far)
        : w->fits && bytes            ? linear_strip_u8
        : w->fits && inside_of(w->in) ? linear_strip_fit
                                      : linear_strip;
    for (int64_t y = begin; y < end; y++) {
        for (int64_t x = 0; x < w->out->width; x += STRIP) {
            int64_t n = w->out->width - x < STRIP ? w->out->width - x : STRIP;
            if (w->m)
                w->kernels->places(n, w->m, w->perspective, (double)x, (double)y, p.x, p.y);
            else
                places_of_maps(w, x, y, n, &p);
            strip(w, &p, n, we_image_row(w->out, y) + x * size);
        }
    }
    return true;
}

/* Numbers: interpolation, border, its value in four channels. */
static we_status warp(const we_imaging_call *c, warping *w, const char *what, we_error *err) {
    int64_t how = 0;
    WE_TRY(we_image_expect(c->in, WE_PIXELS, what, err));
    WE_TRY(we_number_within(c->p[0], NEAREST, LINEAR, "the interpolation", &how, err));
    w->how = (int)how;
    if (c->p[1] == WE_BORDER_TRANSPARENT)
        w->border = WE_BORDER_TRANSPARENT;
    else
        WE_TRY(we_border_of(c->p[1], &w->border, err));
    for (int i = 0; i < 4; i++)
        w->constant[i] = we_pixel_saturate(c->in->dtype, c->p[2 + i]);
    for (int i = 0; i < 4; i++)
        we_pixels_from_f64(c->in->dtype, 1, &w->constant[i], w->elements[i]);
    w->in = c->in;
    w->out = c->out;
    if (we_image_is_empty(w->in) || w->in->channels != w->out->channels || w->in->dtype != w->out->dtype)
        return we_error_set(err, WE_INVALID_ARGUMENT, "%s needs an image that is not empty", what);
    w->kernels = c->kernels;
    w->fits = fits_grid(w->in, &w->grid);
    return we_imaging_rows(c, w->out->height, w->out->width * w->out->channels * 8, warp_rows, w, err);
}

/* Numbers as in warp, then the matrix from result to source: 6 or 9. */
we_status we_imaging_warp_matrix(const we_imaging_call *c, we_error *err) {
    if (c->number_count != 12 && c->number_count != 15)
        return we_error_set(err, WE_INVALID_ARGUMENT, "a warp takes a matrix of 2 x 3 or 3 x 3");
    for (size_t i = 6; i < c->number_count; i++) {
        if (!isfinite(c->p[i]))
            return we_error_set(err, WE_INVALID_ARGUMENT,
                                "the matrix of a warp has an element that is not finite");
    }
    warping w = {.m = c->p + 6, .perspective = c->number_count == 15};
    return warp(c, &w, "a warp", err);
}

/* Inputs: image, then one map of x and y (F32 or I16, two channels), or a map of x and one of y (F32). */
we_status we_imaging_remap(const we_imaging_call *c, we_error *err) {
    warping w = {.map_x = &c->in[1], .map_y = c->in_count == 3 ? &c->in[2] : NULL};
    int64_t channels = w.map_y ? 1 : 2;
    for (const we_image *map = w.map_x; map; map = map == w.map_x ? w.map_y : NULL) {
        bool typed = map->dtype == WE_F32 || (map->dtype == WE_I16 && !w.map_y);
        if (!typed || map->channels != channels || map->height != c->out->height ||
            map->width != c->out->width)
            return we_error_set(
                err, WE_INVALID_ARGUMENT,
                "remap takes one map of pairs (float32 or int16) or two of float32, as large as the result");
    }
    return warp(c, &w, "remap", err);
}

/* ---- Channels by a matrix ---- */

typedef struct mapping {
    const we_image *in, *out;
    const double *m;
    int64_t rows, columns;
    bool perspective;
} mapping;

static bool transform_rows(void *context, int64_t begin, int64_t end) {
    enum { MOST = 32 };
    const mapping *k = context;
    int64_t channels = k->in->channels, to = k->out->channels;
    for (int64_t y = begin; y < end; y++) {
        for (int64_t x = 0; x < k->in->width; x++) {
            double v[MOST], sums[MOST + 1];
            size_t size = we_image_size(k->in);
            we_pixels_to_f64(k->in->dtype, channels, we_image_row(k->in, y) + (size_t)(x * channels) * size,
                             v);
            for (int64_t r = 0; r < k->rows; r++) {
                sums[r] = k->columns > channels ? k->m[r * k->columns + channels] : 0;
                for (int64_t c = 0; c < channels; c++)
                    sums[r] += k->m[r * k->columns + c] * v[c];
            }
            double scale = k->perspective ? (fabs(sums[to]) > 1.1920929e-7 ? 1 / sums[to] : 0) : 1;
            for (int64_t r = 0; r < to; r++)
                sums[r] *= scale;
            we_pixels_from_f64(k->out->dtype, to, sums, we_image_row(k->out, y) + (size_t)(x * to) * size);
        }
    }
    return true;
}

/* Inputs: image, matrix (F64). Numbers: whether the last row of the matrix divides the others. */
we_status we_imaging_transform(const we_imaging_call *c, we_error *err) {
    const we_image *m = c->in + 1;
    mapping k = {.in = c->in,
                 .out = c->out,
                 .m = m->data,
                 .rows = m->height,
                 .columns = m->width,
                 .perspective = c->p[0] != 0};
    WE_TRY(we_image_expect(c->in, WE_PIXELS | WE_TYPE(I32), "transform", err));
    bool fits = m->dtype == WE_F64 && m->channels == 1 && m->row == m->width * (int64_t)sizeof(double) &&
                c->in->channels <= 31 && k.rows <= 32 && k.rows == c->out->channels + k.perspective &&
                (k.columns == c->in->channels || k.columns == c->in->channels + 1);
    if (!fits || c->in->dtype != c->out->dtype || c->in->height != c->out->height ||
        c->in->width != c->out->width)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "the matrix of a transform has a column for each channel");
    return we_imaging_rows(c, k.in->height, k.in->width * k.in->channels * 16, transform_rows, &k, err);
}
