/* From an image to what a model takes, in one pass: resized, placed, its channels in order, scaled, in
 * planes. */
#include "imaging/imaging.h"

enum { MOST = 4 };

typedef struct filling {
    const we_image_kernels *kernels;
    int64_t channels, height, width; /* of the tensor */
    int64_t top, left, made_height, made_width;
    bool swapped, planes, floats;
    float scale[MOST], shift[MOST]; /* by channel of the image */
    float *f32;
    uint8_t *u8;
} filling;

/* Channel of the tensor that channel c of the image becomes. */
static int64_t place_of(const filling *f, int64_t c) {
    return f->swapped && c < 3 ? 2 - c : c;
}

static void fill_floats(const filling *f, int64_t y, const uint8_t *row) {
    int64_t n = f->made_width, channels = f->channels;
    if (f->planes) {
        float *planes[MOST];
        for (int64_t c = 0; c < channels; c++)
            planes[c] = f->f32 + (place_of(f, c) * f->height + y) * f->width + f->left;
        f->kernels->normalise_u8(n, (int32_t)channels, row, f->scale, f->shift, planes);
        return;
    }
    float *to = f->f32 + (y * f->width + f->left) * channels;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < channels; c++)
            to[i * channels + place_of(f, c)] = (float)row[i * channels + c] * f->scale[c] + f->shift[c];
    }
}

static void fill_bytes(const filling *f, int64_t y, const uint8_t *row) {
    int64_t n = f->made_width, channels = f->channels;
    if (f->planes) {
        uint8_t *planes[MOST];
        for (int64_t c = 0; c < channels; c++)
            planes[c] = f->u8 + (place_of(f, c) * f->height + y) * f->width + f->left;
        if (channels == 1)
            memcpy(planes[0], row, (size_t)n);
        else
            f->kernels->split_u8(n, (int32_t)channels, row, planes);
        return;
    }
    uint8_t *to = f->u8 + (y * f->width + f->left) * channels;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < channels; c++)
            to[i * channels + place_of(f, c)] = row[i * channels + c];
    }
}

static void fill_row(void *context, int64_t y, const uint8_t *row) {
    const filling *f = context;
    (f->floats ? fill_floats : fill_bytes)(f, y + f->top, row);
}

static bool copy_rows(void *context, int64_t begin, int64_t end) {
    const we_imaging_call *c = ((void **)context)[0];
    for (int64_t y = begin; y < end; y++)
        fill_row(((void **)context)[1], y, (const uint8_t *)we_image_row(c->in, y));
    return true;
}

/* What lies round the image: one value in all of the tensor first, as that is cheap beside the rest. */
static void fill_around(const filling *f, double pad) {
    for (int64_t c = 0; c < f->channels; c++) {
        int64_t plane = f->height * f->width, step = f->planes ? 1 : f->channels;
        int64_t start = f->planes ? place_of(f, c) * plane : place_of(f, c);
        float value = (float)pad * f->scale[c] + f->shift[c];
        for (int64_t i = 0; i < plane; i++) {
            if (f->floats)
                f->f32[start + i * step] = value;
            else
                f->u8[start + i * step] = (uint8_t)pad;
        }
    }
}

/* Numbers: height and width of the tensor, of the image in it, its place from the top and the left, what lies
 * round it (a byte), whether blue and red change places, whether there is a plane for each channel, then
 * scale and shift of four channels of the image. Result: F32 or (neither scaled nor shifted) U8, as one row.
 */
we_status we_imaging_to_tensor(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *out = c->out;
    WE_TRY(we_image_expect(in, WE_TYPE(U8), "to_tensor", err));
    WE_TRY(we_image_expect(out, WE_TYPE(U8) | WE_TYPE(F32), "to_tensor", err));
    int64_t n[7];
    for (int i = 0; i < 7; i++)
        WE_TRY(we_number_within(c->p[i], 0, i == 6 ? 255 : 1 << 20, "a size of to_tensor", &n[i], err));
    filling f = {.kernels = c->kernels,
                 .channels = in->channels,
                 .height = n[0],
                 .width = n[1],
                 .made_height = n[2],
                 .made_width = n[3],
                 .top = n[4],
                 .left = n[5],
                 .swapped = c->p[7] != 0,
                 .planes = c->p[8] != 0,
                 .floats = out->dtype == WE_F32,
                 .f32 = out->data,
                 .u8 = out->data};
    if (we_image_is_empty(in) || in->channels > MOST || f.made_height < 1 || f.made_width < 1 ||
        f.top + f.made_height > f.height || f.left + f.made_width > f.width ||
        (f.swapped && in->channels < 3) || out->height != 1 || out->channels != 1 ||
        out->width != f.height * f.width * in->channels)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "to_tensor takes an image of 1 to 4 channels that fits the tensor");
    for (int i = 0; i < MOST; i++) {
        f.scale[i] = (float)c->p[9 + i];
        f.shift[i] = (float)c->p[13 + i];
    }
    if (f.made_height != f.height || f.made_width != f.width)
        fill_around(&f, c->p[6]);
    if (in->height == f.made_height && in->width == f.made_width)
        return we_imaging_rows(c, in->height, in->width * in->channels * 5, copy_rows,
                               (void *[]){(void *)c, &f}, err);
    return we_resize_bytes_to(c, f.made_height, f.made_width, fill_row, &f, err);
}
