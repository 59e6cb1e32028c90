/* Between colour spaces. Bytes go through planes of a block of pixels: what is computed then are plain rows.
 */
#include "imaging/color.h"

enum { BLOCK = WE_COLOR_BLOCK, PLANES = WE_COLOR_PLANES };

static bool u8_rows(void *context, int64_t begin, int64_t end) {
    const we_coloring *k = context;
    const we_image_kernels *kernels = k->c->kernels;
    uint8_t memory[2][PLANES][BLOCK];
    uint8_t *in[PLANES], *out[PLANES];
    for (int i = 0; i < PLANES; i++) {
        in[i] = memory[0][i];
        out[i] = memory[1][i];
    }
    memset(out[3], 255, BLOCK);
    int32_t from = (int32_t)k->in->channels, to = (int32_t)k->out->channels;
    for (int64_t row = begin; row < end; row++) {
        uint8_t *x = (uint8_t *)we_image_row(k->in, row), *y = (uint8_t *)we_image_row(k->out, row);
        for (int64_t at = 0; at < k->in->width; at += BLOCK) {
            int64_t n = k->in->width - at < BLOCK ? k->in->width - at : BLOCK;
            if (from == 1)
                in[0] = x + at;
            else
                kernels->split_u8(n, from, x + at * from, in);
            if (to == 1)
                out[0] = y + at;
            k->u8(k, n, in, out);
            if (to > 1)
                kernels->merge_u8(n, to, (const uint8_t *const *)out, y + at * to);
        }
    }
    return true;
}

static bool f64_rows(void *context, int64_t begin, int64_t end) {
    const we_coloring *k = context;
    int64_t from = k->in->channels, to = k->out->channels, width = k->in->width;
    double *x = we_memory_new_dirty((size_t)(width * (from + to)) * sizeof(double));
    if (!x)
        return false;
    double *y = x + width * from;
    for (int64_t row = begin; row < end; row++) {
        we_pixels_to_f64(k->in->dtype, width * from, we_image_row(k->in, row), x);
        for (int64_t i = 0; i < width; i++) {
            if (to == 4)
                y[i * to + 3] = k->one;
            k->f64(k, x + i * from, y + i * to);
        }
        we_pixels_from_f64(k->out->dtype, width * to, y, we_image_row(k->out, row));
    }
    we_memory_free(x);
    return true;
}

we_status we_color_convert(we_coloring *k, uint32_t dtypes, int64_t least_in, int64_t most_in,
                           int64_t least_out, int64_t most_out, we_error *err) {
    const we_image *in = k->c->in, *out = k->c->out;
    WE_TRY(we_image_expect(in, dtypes, "this conversion", err));
    if (in->channels < least_in || in->channels > most_in)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "this conversion takes images of %lld channels, not %lld", (long long)least_in,
                            (long long)in->channels);
    if (out->channels < least_out || out->channels > most_out || in->height != out->height ||
        in->width != out->width || in->dtype != out->dtype)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the result of this conversion has another shape");
    k->in = in;
    k->out = out;
    k->one = in->dtype == WE_U8 ? 255 : in->dtype == WE_U16 ? 65535 : 1;
    k->half = in->dtype == WE_U8 ? 128 : in->dtype == WE_U16 ? 32768 : 0.5;
    we_rows_work rows = in->dtype != WE_U8 ? f64_rows : k->bytes ? k->bytes : u8_rows;
    return we_imaging_rows(k->c, in->height, in->width * (in->channels + out->channels), rows, k, err);
}

/* ---- Channels put in another order ---- */

static bool order_rows(void *context, int64_t begin, int64_t end) {
    const we_coloring *k = context;
    int8_t order[PLANES];
    for (int64_t c = 0; c < k->out->channels; c++)
        order[c] = (int8_t)k->p[c];
    for (int64_t y = begin; y < end; y++)
        k->c->kernels->order_u8(k->in->width, (int32_t)k->in->channels, (int32_t)k->out->channels, order,
                                (const uint8_t *)we_image_row(k->in, y), (uint8_t *)we_image_row(k->out, y));
    return true;
}

static void order_f64(const we_coloring *k, const double *in, double *out) {
    for (int64_t c = 0; c < k->out->channels; c++)
        out[c] = k->p[c] < 0 ? k->one : in[(int)k->p[c]];
}

/* Numbers: for every channel of the result the channel it comes from, -1 for full scale. */
we_status we_imaging_color_order(const we_imaging_call *c, we_error *err) {
    int64_t channels = (int64_t)c->number_count, ignored;
    for (int64_t i = 0; i < channels; i++)
        WE_TRY(we_number_within(c->p[i], -1, c->in->channels - 1, "a channel", &ignored, err));
    we_coloring k = {.c = c, .p = c->p, .bytes = order_rows, .f64 = order_f64};
    return we_color_convert(&k, WE_TYPE(U8) | WE_TYPE(U16) | WE_TYPE(F32) | WE_TYPE(F64), 1, PLANES, channels,
                            channels, err);
}

/* ---- Grey ---- */

static void gray_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    static const int32_t WEIGHTS[4] = {3735, 19235, 9798, 1 << 14};
    k->c->kernels->mix_u8(n, in[k->blue], in[1], in[2 - k->blue], WEIGHTS, 15, out[0]);
}

static void gray_f64(const we_coloring *k, const double *in, double *out) {
    double b = in[k->blue], g = in[1], r = in[2 - k->blue];
    if (k->in->dtype == WE_U16)
        out[0] = (double)(((int64_t)b * 3735 + (int64_t)g * 19235 + (int64_t)r * 9798 + (1 << 14)) >> 15);
    else
        out[0] = (double)((float)b * 0.114f + (float)g * 0.587f + (float)r * 0.299f);
}

we_status we_color_blue_of(const we_imaging_call *c, int *blue, we_error *err) {
    int64_t value = 0;
    WE_TRY(we_number_within(c->p[0], 0, 2, "the channel of blue", &value, err));
    *blue = value ? 2 : 0;
    return WE_OK;
}

enum { DEEP = WE_TYPE(U8) | WE_TYPE(U16) | WE_TYPE(F32) };

/* Numbers: the channel of blue. */
we_status we_imaging_color_gray(const we_imaging_call *c, we_error *err) {
    we_coloring k = {.c = c, .u8 = gray_u8, .f64 = gray_f64};
    WE_TRY(we_color_blue_of(c, &k.blue, err));
    return we_color_convert(&k, DEEP, 3, 4, 1, 1, err);
}

/* ---- Luma and chroma ---- */

/* In 14 bits, and as OpenCV has them for floats. red_of: weight of red's (blue's) difference in its chroma.
 */
typedef struct chroma {
    int32_t red_in, blue_in, red_out, green_red, green_blue, blue_out;
    float red_in_f, blue_in_f, red_out_f, green_red_f, green_blue_f, blue_out_f;
    int red_at; /* channel of red's chroma */
} chroma;
static const chroma CHROMAS[] = {
    {11682, 9241, 22987, -11698, -5636, 29049, 0.713f, 0.564f, 1.403f, -0.714f, -0.344f, 1.773f,
     1}, /* YCrCb */
    {14369, 8061, 18678, -9519, -6472, 33292, 0.877f, 0.492f, 1.140f, -0.581f, -0.395f, 2.032f, 2}, /* YUV */
};
enum { BITS = 14, ROUND = 1 << 13 };

static const chroma *chroma_of(const we_coloring *k) {
    return &CHROMAS[k->p[1] != 0];
}

static void to_chroma_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    const chroma *m = chroma_of(k);
    const int32_t luma[4] = {1868, 9617, 4899, ROUND};
    const int32_t red[4] = {m->red_in, -m->red_in, 0, (128 << BITS) + ROUND};
    const int32_t blue[4] = {m->blue_in, -m->blue_in, 0, (128 << BITS) + ROUND};
    uint8_t *b = in[k->blue], *g = in[1], *r = in[2 - k->blue];
    k->c->kernels->mix_u8(n, b, g, r, luma, BITS, out[0]);
    k->c->kernels->mix_u8(n, r, out[0], out[0], red, BITS, out[m->red_at]);
    k->c->kernels->mix_u8(n, b, out[0], out[0], blue, BITS, out[3 - m->red_at]);
}

static void to_chroma_f64(const we_coloring *k, const double *in, double *out) {
    const chroma *m = chroma_of(k);
    double b = in[k->blue], g = in[1], r = in[2 - k->blue];
    if (k->in->dtype == WE_U16) {
        int64_t luma = ((int64_t)b * 1868 + (int64_t)g * 9617 + (int64_t)r * 4899 + ROUND) >> BITS;
        int64_t start = ((int64_t)32768 << BITS) + ROUND;
        out[0] = (double)luma;
        out[m->red_at] = (double)((((int64_t)r - luma) * m->red_in + start) >> BITS);
        out[3 - m->red_at] = (double)((((int64_t)b - luma) * m->blue_in + start) >> BITS);
    } else {
        float luma = (float)b * 0.114f + (float)g * 0.587f + (float)r * 0.299f;
        out[0] = (double)luma;
        out[m->red_at] = (double)(((float)r - luma) * m->red_in_f + 0.5f);
        out[3 - m->red_at] = (double)(((float)b - luma) * m->blue_in_f + 0.5f);
    }
}

static void from_chroma_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    const chroma *m = chroma_of(k);
    const uint8_t *luma = in[0], *red = in[m->red_at], *blue = in[3 - m->red_at];
    const int32_t b[4] = {1 << BITS, 0, m->blue_out, ROUND - 128 * m->blue_out};
    const int32_t g[4] = {1 << BITS, m->green_red, m->green_blue,
                          ROUND - 128 * (m->green_red + m->green_blue)};
    const int32_t r[4] = {1 << BITS, m->red_out, 0, ROUND - 128 * m->red_out};
    k->c->kernels->mix_u8(n, luma, red, blue, b, BITS, out[k->blue]);
    k->c->kernels->mix_u8(n, luma, red, blue, g, BITS, out[1]);
    k->c->kernels->mix_u8(n, luma, red, blue, r, BITS, out[2 - k->blue]);
}

static void from_chroma_f64(const we_coloring *k, const double *in, double *out) {
    const chroma *m = chroma_of(k);
    if (k->in->dtype == WE_U16) {
        int64_t y = (int64_t)in[0], red = (int64_t)in[m->red_at] - 32768,
                blue = (int64_t)in[3 - m->red_at] - 32768;
        out[k->blue] = (double)(y + ((blue * m->blue_out + ROUND) >> BITS));
        out[1] = (double)(y + ((red * m->green_red + blue * m->green_blue + ROUND) >> BITS));
        out[2 - k->blue] = (double)(y + ((red * m->red_out + ROUND) >> BITS));
    } else {
        float y = (float)in[0], red = (float)in[m->red_at] - 0.5f, blue = (float)in[3 - m->red_at] - 0.5f;
        out[k->blue] = (double)(y + blue * m->blue_out_f);
        out[1] = (double)(y + red * m->green_red_f + blue * m->green_blue_f);
        out[2 - k->blue] = (double)(y + red * m->red_out_f);
    }
}

/* Numbers: the channel of blue, 0 for YCrCb or 1 for YUV. */
we_status we_imaging_color_to_chroma(const we_imaging_call *c, we_error *err) {
    we_coloring k = {.c = c, .p = c->p, .u8 = to_chroma_u8, .f64 = to_chroma_f64};
    WE_TRY(we_color_blue_of(c, &k.blue, err));
    return we_color_convert(&k, DEEP, 3, 4, 3, 3, err);
}

we_status we_imaging_color_from_chroma(const we_imaging_call *c, we_error *err) {
    we_coloring k = {.c = c, .p = c->p, .u8 = from_chroma_u8, .f64 = from_chroma_f64};
    WE_TRY(we_color_blue_of(c, &k.blue, err));
    return we_color_convert(&k, DEEP, 3, 3, 3, 4, err);
}

/* ---- Hue ---- */

static void to_hsv_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    k->c->kernels->hsv_u8(n, in[k->blue], in[1], in[2 - k->blue], k->range, out[0], out[1], out[2]);
}

static void to_hsv_f64(const we_coloring *k, const double *in, double *out) {
    float b = (float)in[k->blue], g = (float)in[1], r = (float)in[2 - k->blue];
    float most = fmaxf(fmaxf(b, g), r), spread = most - fminf(fminf(b, g), r);
    float factor = 60.f / (spread + 1.1920929e-7f);
    float hue = most == r   ? (g - b) * factor
                : most == g ? (b - r) * factor + 120.f
                            : (r - g) * factor + 240.f;
    out[0] = (double)(hue < 0 ? hue + 360.f : hue);
    out[1] = (double)(spread / (fabsf(most) + 1.1920929e-7f));
    out[2] = (double)most;
}

static void from_hsv_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    uint8_t *const planes[3] = {out[k->blue], out[1], out[2 - k->blue]};
    k->c->kernels->unhsv_u8(n, in[0], in[1], in[2], 6.0f / (float)k->range, planes);
}

static void from_hsv_f64(const we_coloring *k, const double *in, double *out) {
    static const int SECTORS[6][3] = {{1, 3, 0}, {1, 0, 2}, {3, 0, 1}, {0, 2, 1}, {0, 1, 3}, {2, 1, 0}};
    float angle = (float)in[0] * (6.f / 360.f), sat = (float)in[1], value = (float)in[2];
    float turns = floorf(angle / 6), rest = angle - turns * 6;
    int sector = rest >= 0 && rest < 6 ? (int)rest : 0;
    float f = rest - (float)sector;
    float table[4] = {value, value * (1 - sat), value * (1 - sat * f), value * (1 - sat * (1 - f))};
    out[k->blue] = (double)table[SECTORS[sector][0]];
    out[1] = (double)table[SECTORS[sector][1]];
    out[2 - k->blue] = (double)table[SECTORS[sector][2]];
}

/* Numbers: the channel of blue, the hues of a circle of bytes (180, or 256 in full). */
we_status we_imaging_color_to_hsv(const we_imaging_call *c, we_error *err) {
    we_coloring k = {.c = c, .u8 = to_hsv_u8, .f64 = to_hsv_f64, .range = c->p[1] == 180 ? 180 : 256};
    WE_TRY(we_color_blue_of(c, &k.blue, err));
    return we_color_convert(&k, WE_TYPE(U8) | WE_TYPE(F32), 3, 4, 3, 3, err);
}

we_status we_imaging_color_from_hsv(const we_imaging_call *c, we_error *err) {
    we_coloring k = {.c = c, .u8 = from_hsv_u8, .f64 = from_hsv_f64, .range = c->p[1] == 180 ? 180 : 255};
    WE_TRY(we_color_blue_of(c, &k.blue, err));
    return we_color_convert(&k, WE_TYPE(U8) | WE_TYPE(F32), 3, 3, 3, 4, err);
}

/* ---- Frames of video: a plane of luma, then chroma for squares of 2 x 2 pixels ---- */

typedef struct video {
    const we_imaging_call *c;
    const we_image *frame, *image;
    int64_t height, width;
    bool interleaved; /* one plane of pairs; else two planes, one after the other */
    bool v_first;
    int blue;
} video;

/* Row `y` (of pairs of rows) of u or v, whose planes are packed into rows of the frame. */
static uint8_t *chroma_row(const video *f, int64_t y, bool v) {
    bool second = v != f->v_first;
    if (f->interleaved)
        return (uint8_t *)we_image_row(f->frame, f->height + y) + second;
    int64_t half = f->width / 2, line = y + (second ? f->height / 2 : 0);
    return (uint8_t *)we_image_row(f->frame, f->height + line / 2) + (line & 1) * half;
}

static bool from_video_rows(void *context, int64_t begin, int64_t end) {
    const video *f = context;
    const we_image_kernels *kernels = f->c->kernels;
    int64_t channels = f->image->channels;
    uint8_t pair[2][BLOCK / 2], planes[PLANES][BLOCK];
    memset(planes[3], 255, BLOCK);
    uint8_t *bgr[3] = {planes[f->blue], planes[1], planes[2 - f->blue]};
    const uint8_t *all[PLANES] = {planes[0], planes[1], planes[2], planes[3]};
    for (int64_t y = 2 * begin; y < 2 * end; y++) {
        const uint8_t *luma = (const uint8_t *)we_image_row(f->frame, y);
        uint8_t *to = (uint8_t *)we_image_row(f->image, y);
        const uint8_t *u = chroma_row(f, y / 2, false), *v = chroma_row(f, y / 2, true);
        for (int64_t x = 0; x < f->width; x += BLOCK) {
            int64_t n = f->width - x < BLOCK ? f->width - x : BLOCK;
            const uint8_t *du = u + x / 2, *dv = v + x / 2;
            if (f->interleaved) {
                uint8_t *halves[2] = {pair[f->v_first], pair[!f->v_first]};
                kernels->split_u8(n / 2, 2, (u < v ? u : v) + x, halves);
                du = pair[0];
                dv = pair[1];
            }
            kernels->video_u8(n, luma + x, du, dv, bgr);
            kernels->merge_u8(n, (int32_t)channels, all, to + x * channels);
        }
    }
    return true;
}

/* u and v of the first of every two pixels. */
static void make_chroma(const video *f, int64_t n, const uint8_t *b, const uint8_t *g, const uint8_t *r,
                        uint8_t *u, uint8_t *v) {
    static const int32_t OF_U[4] = {460324, -305135, -155188, (1 << 19) + (128 << 20)},
                         OF_V[4] = {-74448, -385875, 460324, (1 << 19) + (128 << 20)};
    const we_image_kernels *kernels = f->c->kernels;
    const uint8_t *full[3] = {b, g, r};
    uint8_t half[3][BLOCK / 2], rest[BLOCK / 2], both[2][BLOCK / 2];
    for (int c = 0; c < 3; c++)
        kernels->split_u8(n / 2, 2, full[c], (uint8_t *[]){half[c], rest});
    kernels->mix_u8(n / 2, half[0], half[1], half[2], OF_U, 20, f->interleaved ? both[0] : u);
    kernels->mix_u8(n / 2, half[0], half[1], half[2], OF_V, 20, f->interleaved ? both[1] : v);
    if (f->interleaved)
        kernels->merge_u8(n / 2, 2, (const uint8_t *[]){both[f->v_first], both[!f->v_first]},
                          f->v_first ? v : u);
}

static bool to_video_rows(void *context, int64_t begin, int64_t end) {
    static const int32_t LUMA[4] = {102760, 528482, 269484, (1 << 19) + (16 << 20)};
    const video *f = context;
    const we_image_kernels *kernels = f->c->kernels;
    int64_t channels = f->image->channels;
    uint8_t memory[PLANES][BLOCK];
    uint8_t *planes[PLANES] = {memory[0], memory[1], memory[2], memory[3]};
    for (int64_t y = 2 * begin; y < 2 * end; y++) {
        uint8_t *u = chroma_row(f, y / 2, false), *v = chroma_row(f, y / 2, true);
        int64_t step = f->interleaved ? 2 : 1;
        for (int64_t x = 0; x < f->width; x += BLOCK) {
            int64_t n = f->width - x < BLOCK ? f->width - x : BLOCK;
            kernels->split_u8(n, (int32_t)channels, (const uint8_t *)we_image_row(f->image, y) + x * channels,
                              planes);
            const uint8_t *b = planes[f->blue], *g = planes[1], *r = planes[2 - f->blue];
            kernels->mix_u8(n, b, g, r, LUMA, 20, (uint8_t *)we_image_row(f->frame, y) + x);
            if (y % 2 == 0)
                make_chroma(f, n, b, g, r, u + x / 2 * step, v + x / 2 * step);
        }
    }
    return true;
}

/* Numbers: the channel of blue, whether chroma is interleaved, whether v comes first. */
static we_status convert_video(const we_imaging_call *c, const we_image *frame, const we_image *image,
                               we_rows_work rows, we_error *err) {
    video f = {.c = c,
               .frame = frame,
               .image = image,
               .height = image->height,
               .width = image->width,
               .interleaved = c->p[1] != 0,
               .v_first = c->p[2] != 0};
    WE_TRY(we_color_blue_of(c, &f.blue, err));
    WE_TRY(we_image_expect(frame, WE_TYPE(U8), "a frame of video", err));
    WE_TRY(we_image_expect(image, WE_TYPE(U8), "a frame of video", err));
    if (f.height % 2 || f.width % 2 || frame->channels != 1 || frame->width != f.width ||
        frame->height != f.height / 2 * 3 || image->channels < 3 || image->channels > 4)
        return we_error_set(
            err, WE_INVALID_ARGUMENT,
            "a frame of video has one channel, even sizes and half as many rows of chroma as of luma");
    return we_imaging_rows(c, f.height / 2, f.width * (image->channels + 2) * 2, rows, &f, err);
}

we_status we_imaging_color_from_video(const we_imaging_call *c, we_error *err) {
    return convert_video(c, c->in, c->out, from_video_rows, err);
}

we_status we_imaging_color_to_video(const we_imaging_call *c, we_error *err) {
    return convert_video(c, c->out, c->in, to_video_rows, err);
}
