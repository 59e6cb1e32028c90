/* Pixels put elsewhere: flips, turns, borders, channels apart and together. */
#include "imaging/imaging.h"

static int64_t pixel_size(const we_image *image) {
    return image->channels * (int64_t)we_image_size(image);
}

typedef struct moving {
    const we_image_kernels *kernels;
    const we_image *in, *out;
    bool transpose, flip_x, flip_y; /* in that order, of the result's axes */
    we_transpose_kernel transpose4;
} moving;

#define MOVE(type)                                                                                           \
    for (int64_t i = 0; i < n; i++)                                                                          \
    memcpy(to + i * (int64_t)sizeof(type), from + i * step, sizeof(type))

static void move_pixels(int64_t n, int64_t size, const char *from, int64_t step, char *to) {
    typedef struct three {
        char bytes[3];
    } three;
    switch (size) {
    case 1:
        MOVE(char);
        break;
    case 2:
        MOVE(int16_t);
        break;
    case 3:
        MOVE(three);
        break;
    case 4:
        MOVE(int32_t);
        break;
    case 8:
        MOVE(int64_t);
        break;
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(to + i * size, from + i * step, (size_t)size);
    }
}

enum { TILE = 64 };

/* A tile of a turned image, whose rows are columns of the source; false: of no size there is a kernel for.
 * Flips only say which row or column comes first. Pixels of three bytes take four in between. */
static bool turn_tile(const moving *m, int64_t x, int64_t columns, int64_t y, int64_t rows) {
    static const int8_t WIDER[4] = {0, 1, 2, -1}, NARROWER[3] = {0, 1, 2};
    int64_t size = pixel_size(m->in), in_row = m->flip_x ? -m->in->row : m->in->row, out_row = m->out->row;
    if (size != 1 && size != 3 && (size != 4 || in_row % 4 != 0 || out_row % 4 != 0))
        return false;
    const char *from = we_image_row(m->in, m->flip_x ? m->out->width - 1 - x : x) +
                       (m->flip_y ? m->out->height - y - rows : y) * size;
    char *to = we_image_row(m->out, y) + x * size;
    if (m->flip_y) {
        to += (rows - 1) * out_row;
        out_row = -out_row;
    }
    if (size == 1) {
        m->kernels->transpose_u8(rows, columns, (const uint8_t *)from, in_row, (uint8_t *)to, out_row);
    } else if (size == 4) {
        m->transpose4(rows, columns, (const uint32_t *)(const void *)from, in_row / 4, (uint32_t *)(void *)to,
                      out_row / 4);
    } else {
        uint32_t wide[TILE][TILE], turned[TILE][TILE];
        for (int64_t i = 0; i < columns; i++)
            m->kernels->order_u8(rows, 3, 4, WIDER, (const uint8_t *)from + i * in_row, (uint8_t *)wide[i]);
        m->transpose4(rows, columns, wide[0], TILE, turned[0], TILE);
        for (int64_t i = 0; i < rows; i++)
            m->kernels->order_u8(columns, 4, 3, NARROWER, (const uint8_t *)turned[i],
                                 (uint8_t *)to + i * out_row);
    }
    return true;
}

static bool turn_rows(void *context, int64_t begin, int64_t end) {
    const moving *m = context;
    int64_t size = pixel_size(m->in), width = m->out->width;
    for (int64_t y = begin; y < end; y += TILE) {
        int64_t rows = end - y < TILE ? end - y : TILE;
        for (int64_t x = 0; x < width; x += TILE) {
            int64_t columns = width - x < TILE ? width - x : TILE;
            if (turn_tile(m, x, columns, y, rows))
                continue;
            for (int64_t i = y; i < y + rows; i++) {
                int64_t sy = m->flip_y ? m->out->height - 1 - i : i, sx = m->flip_x ? width - 1 - x : x;
                move_pixels(columns, size, we_image_row(m->in, sx) + sy * size,
                            m->flip_x ? -m->in->row : m->in->row, we_image_row(m->out, i) + x * size);
            }
        }
    }
    return true;
}

static bool flip_rows(void *context, int64_t begin, int64_t end) {
    const moving *m = context;
    int64_t size = pixel_size(m->in), width = m->out->width;
    for (int64_t y = begin; y < end; y++) {
        char *from = we_image_row(m->in, m->flip_y ? m->out->height - 1 - y : y),
             *to = we_image_row(m->out, y);
        if (m->flip_x)
            m->kernels->reverse_u8(width, (int32_t)size, (const uint8_t *)from, (uint8_t *)to);
        else
            memcpy(to, from, (size_t)(width * size));
    }
    return true;
}

/* Numbers: whether rows and columns change places, then whether the result is flipped left to right, and
 * upside down. */
we_status we_imaging_flip(const we_imaging_call *c, we_error *err) {
    moving m = {c->kernels, c->in, c->out, c->p[0] != 0, c->p[1] != 0, c->p[2] != 0, NULL};
    const we_kernels *kernels;
    WE_TRY(we_kernels_get(&kernels, err));
    m.transpose4 = kernels->transpose;
    int64_t height = m.transpose ? m.in->width : m.in->height,
            width = m.transpose ? m.in->height : m.in->width;
    WE_TRY(we_image_expect(c->in, WE_ANY_PIXELS, "a flip", err));
    if (m.out->height != height || m.out->width != width || m.out->channels != m.in->channels ||
        m.out->dtype != m.in->dtype)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the result of a flip has another shape");
    if (we_image_is_empty(c->in))
        return WE_OK;
    return we_imaging_rows(c, height, width * pixel_size(c->in), m.transpose ? turn_rows : flip_rows, &m,
                           err);
}

typedef struct bordering {
    const we_image *in, *out;
    int64_t top, left, right;
    int border;
    const char *constant; /* a row of the result */
    const int64_t
        *from; /* bytes into a row of the source for each column to the left and then to the right */
} bordering;

/* n pixels at `to`, each from where the source has it. */
static void border_pixels(const bordering *b, int64_t n, const char *row, const int64_t *from, char *to) {
    int64_t size = pixel_size(b->in);
#define PIXELS(bytes)                                                                                        \
    for (int64_t i = 0; i < n; i++)                                                                          \
    memcpy(to + i * size, row + from[i], (size_t)(bytes))
    if (b->border == WE_BORDER_CONSTANT)
        memcpy(to, b->constant, (size_t)(n * size));
    else if (size == 1)
        PIXELS(1);
    else if (size == 3)
        PIXELS(3);
    else if (size == 4)
        PIXELS(4);
    else
        PIXELS(size);
#undef PIXELS
}

static bool border_rows(void *context, int64_t begin, int64_t end) {
    const bordering *b = context;
    int64_t size = pixel_size(b->in), width = b->in->width, right = b->left + width;
    for (int64_t y = begin; y < end; y++) {
        int64_t from = we_border_at(y - b->top, b->in->height, b->border);
        char *to = we_image_row(b->out, y);
        if (from < 0) {
            memcpy(to, b->constant, (size_t)(b->out->width * size));
            continue;
        }
        const char *row = we_image_row(b->in, from);
        border_pixels(b, b->left, row, b->from, to);
        memcpy(to + b->left * size, row, (size_t)(width * size));
        border_pixels(b, b->right, row, b->from + b->left, to + right * size);
    }
    return true;
}

static void border_fill(bordering *b, const double *value, int64_t *from, char *constant) {
    const we_image *in = b->in;
    int64_t size = pixel_size(in);
    for (int64_t i = 0; i < b->left + b->right; i++) {
        int64_t column = i < b->left ? i - b->left : in->width + i - b->left;
        from[i] = we_border_at(column, in->width, b->border) * size;
    }
    for (int64_t channel = 0; channel < in->channels; channel++)
        we_pixels_from_f64(in->dtype, 1, &value[channel < 4 ? channel : 3],
                           constant + channel * (int64_t)we_image_size(in));
    for (int64_t i = 1; i < b->out->width; i++)
        memcpy(constant + i * size, constant, (size_t)size);
    b->from = from;
    b->constant = constant;
}

/* Numbers: rows above, columns to the left, border, its value in four channels. */
we_status we_imaging_border(const we_imaging_call *c, we_error *err) {
    enum { MOST = 32 };
    const we_image *in = c->in, *out = c->out;
    bordering b = {.in = in, .out = out};
    WE_TRY(we_image_expect(in, WE_ANY_PIXELS, "copyMakeBorder", err));
    WE_TRY(we_number_within(c->p[0], 0, out->height - in->height, "the border above", &b.top, err));
    WE_TRY(we_number_within(c->p[1], 0, out->width - in->width, "the border to the left", &b.left, err));
    WE_TRY(we_border_of(c->p[2], &b.border, err));
    if (in->channels != out->channels || in->dtype != out->dtype || in->channels > MOST ||
        (we_image_is_empty(in) && b.border != WE_BORDER_CONSTANT))
        return we_error_set(err, WE_INVALID_ARGUMENT, "copyMakeBorder needs an image of 1 to %d channels",
                            MOST);
    b.right = out->width - in->width - b.left;
    int64_t *from = we_memory_new_dirty((size_t)(b.left + b.right + 1) * sizeof *from);
    char *constant = we_memory_new_dirty((size_t)((out->width + 1) * pixel_size(in)));
    we_status status;
    if (from && constant) {
        border_fill(&b, c->p + 3, from, constant);
        status = we_imaging_rows(c, out->height, out->width * pixel_size(in), border_rows, &b, err);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(from);
    we_memory_free(constant);
    return status;
}

/* Numbers: x and y of the corner. The result's size is that of the crop. */
we_status we_imaging_crop(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *out = c->out;
    int64_t x = 0, y = 0;
    WE_TRY(we_image_expect(in, WE_ANY_PIXELS, "a crop", err));
    WE_TRY(we_number_within(c->p[0], 0, in->width - out->width, "the left of a crop", &x, err));
    WE_TRY(we_number_within(c->p[1], 0, in->height - out->height, "the top of a crop", &y, err));
    if (in->channels != out->channels || in->dtype != out->dtype)
        return we_error_set(err, WE_INVALID_ARGUMENT, "a crop has the channels and the type of its image");
    int64_t size = pixel_size(in);
    for (int64_t row = 0; row < out->height; row++)
        memcpy(we_image_row(out, row), we_image_row(in, y + row) + x * size, (size_t)(out->width * size));
    return WE_OK;
}

/* ---- Channels ---- */

typedef struct planes {
    const we_imaging_call *c;
    const we_image *packed, *apart;
    bool splits;
} planes;

static void planes_row_u8(const planes *p, int64_t y) {
    uint8_t *rows[4];
    int32_t channels = (int32_t)p->packed->channels;
    for (int32_t i = 0; i < channels; i++)
        rows[i] = (uint8_t *)we_image_row(&p->apart[i], y);
    uint8_t *packed = (uint8_t *)we_image_row(p->packed, y);
    if (p->splits)
        p->c->kernels->split_u8(p->packed->width, channels, packed, rows);
    else
        p->c->kernels->merge_u8(p->packed->width, channels, (const uint8_t *const *)rows, packed);
}

static bool planes_rows(void *context, int64_t begin, int64_t end) {
    const planes *p = context;
    int64_t channels = p->packed->channels;
    bool bytes = p->packed->dtype == WE_U8 && channels >= 2 && channels <= 4;
    for (int64_t y = begin; y < end; y++) {
        if (bytes) {
            planes_row_u8(p, y);
            continue;
        }
        for (int64_t k = 0; k < channels; k++) {
            WE_FOR_PIXELS(p->packed->dtype, {
                T *packed = (T *)(void *)we_image_row(p->packed, y) + k;
                T *plane = (T *)(void *)we_image_row(&p->apart[k], y);
                if (p->splits) {
                    for (int64_t i = 0; i < p->packed->width; i++)
                        plane[i] = packed[i * channels];
                } else {
                    for (int64_t i = 0; i < p->packed->width; i++)
                        packed[i * channels] = plane[i];
                }
            })
        }
    }
    return true;
}

static we_status move_planes(const we_imaging_call *c, planes *p, size_t count, we_error *err) {
    WE_TRY(we_image_expect(p->packed, WE_ANY_PIXELS, "split or merge", err));
    bool fits = (size_t)p->packed->channels == count && count <= WE_MOST_PLANES;
    for (size_t i = 0; fits && i < count; i++)
        fits = p->apart[i].channels == 1 && p->apart[i].height == p->packed->height &&
               p->apart[i].width == p->packed->width && p->apart[i].dtype == p->packed->dtype;
    if (!fits)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "planes have one channel, one size and one type each, %d at most",
                            WE_MOST_PLANES);
    return we_imaging_rows(c, p->packed->height, p->packed->width * pixel_size(p->packed), planes_rows, p,
                           err);
}

we_status we_imaging_split(const we_imaging_call *c, we_error *err) {
    return move_planes(c, &(planes){c, c->in, c->out, true}, c->out_count, err);
}

we_status we_imaging_merge(const we_imaging_call *c, we_error *err) {
    return move_planes(c, &(planes){c, c->out, c->in, false}, c->in_count, err);
}
