/* Canny's edges. A ring of three rows of gradients and their sizes goes down; what may be an edge is marked,
 * and then followed. */
#include "imaging/imaging.h"

typedef struct canny {
    const we_imaging_call *c;
    const we_image *bytes;   /* gradients are Sobel's of these, or */
    const we_image *dx, *dy; /* were made before */
    uint8_t *marks;          /* a border of WE_EDGE_NONE round them */
    int64_t step, height, width;
    int32_t low, high;
    bool squares;
} canny;

/* Scratch of a thread: a ring of gradients, of their sizes with a zero on both sides, and a row of sums. */
typedef struct ring {
    int16_t *dx[3], *dy[3], *sums;
    int32_t *size[3];
} ring;

/* Sobel's gradients of row y: weighed down, then across. The border repeats the edge. */
static void sobel(const canny *k, int64_t y, const ring *r, int slot) {
    static const int16_t SMOOTH[3] = {1, 2, 1}, SLOPE[2] = {-1, 1};
    const we_image_kernels *f = k->c->kernels;
    int64_t n = k->width;
    const uint8_t *rows[3];
    for (int t = 0; t < 3; t++)
        rows[t] =
            (const uint8_t *)we_image_row(k->bytes, we_border_at(y - 1 + t, k->height, WE_BORDER_REPLICATE));
    int16_t *middle = r->sums + 1;
    f->taps_u8_i16(n, 3, rows, SMOOTH, middle);
    middle[-1] = middle[0];
    middle[n] = middle[n - 1];
    const int16_t *three[3] = {middle - 1, middle, middle + 1}, *two[2] = {middle - 1, middle + 1};
    f->taps_i16(n, 2, two, SLOPE, r->dx[slot]);
    const uint8_t *ends[2] = {rows[0], rows[2]};
    f->taps_u8_i16(n, 2, ends, SLOPE, middle);
    middle[-1] = middle[0];
    middle[n] = middle[n - 1];
    f->taps_i16(n, 3, three, SMOOTH, r->dy[slot]);
}

/* The gradients of the channel where they are largest, and their sizes. */
static void largest_channel(const canny *k, int64_t y, const ring *r, int slot, int32_t *size) {
    int64_t channels = k->dx->channels;
    const int16_t *dx = (const int16_t *)(const void *)we_image_row(k->dx, y);
    const int16_t *dy = (const int16_t *)(const void *)we_image_row(k->dy, y);
    for (int64_t x = 0; x < k->width; x++) {
        size[x] = -1;
        for (int64_t c = 0; c < channels; c++) {
            int32_t a = dx[x * channels + c], b = dy[x * channels + c];
            int32_t found = k->squares ? a * a + b * b : (a < 0 ? -a : a) + (b < 0 ? -b : b);
            if (found > size[x]) {
                size[x] = found;
                r->dx[slot][x] = (int16_t)a;
                r->dy[slot][x] = (int16_t)b;
            }
        }
    }
}

static void enter(const canny *k, int64_t y, const ring *r, int slot) {
    int32_t *size = r->size[slot];
    if (y < 0 || y >= k->height) {
        memset(size, 0, (size_t)k->width * sizeof(int32_t));
        return;
    }
    if (k->bytes) {
        sobel(k, y, r, slot);
    } else if (k->dx->channels > 1) {
        largest_channel(k, y, r, slot, size);
        return;
    } else {
        memcpy(r->dx[slot], we_image_row(k->dx, y), (size_t)k->width * sizeof(int16_t));
        memcpy(r->dy[slot], we_image_row(k->dy, y), (size_t)k->width * sizeof(int16_t));
    }
    k->c->kernels->edge_sizes(k->width, r->dx[slot], r->dy[slot], k->squares, size);
}

static bool mark_rows(void *context, int64_t begin, int64_t end) {
    const canny *k = context;
    size_t halves = ((size_t)k->width + 2 + 31) / 32 * 32;
    int16_t *scratch = we_memory_new(halves * (7 * sizeof(int16_t) + 3 * sizeof(int32_t)));
    if (!scratch)
        return false;
    ring r = {.sums = scratch};
    for (int i = 0; i < 3; i++) {
        r.dx[i] = scratch + halves * (size_t)(1 + i);
        r.dy[i] = scratch + halves * (size_t)(4 + i);
        r.size[i] = (int32_t *)(void *)(scratch + halves * 7) + halves * (size_t)i + 1;
    }
    for (int64_t next = begin - 1, y = begin; y < end; y++) {
        for (; next <= y + 1; next++)
            enter(k, next, &r, (int)((next - begin + 1) % 3));
        int above = (int)((y - begin) % 3), here = (above + 1) % 3, below = (above + 2) % 3;
        k->c->kernels->edge_marks(k->width, r.dx[here], r.dy[here], r.size[above], r.size[here],
                                  r.size[below], k->low, k->high, k->marks + (y + 1) * k->step + 1);
    }
    we_memory_free(scratch);
    return true;
}

/* What may be an edge and touches one is one. */
static void follow(const canny *k, int64_t *stack) {
    const int64_t around[8] = {-k->step - 1, -k->step, -k->step + 1, -1, 1,
                               k->step - 1,  k->step,  k->step + 1};
    uint8_t *end = k->marks + (k->height + 1) * k->step, *from = k->marks + k->step;
    while ((from = memchr(from, WE_EDGE_SURE, (size_t)(end - from)))) {
        int64_t top = 0;
        stack[top++] = from++ - k->marks;
        while (top > 0) {
            uint8_t *at = k->marks + stack[--top];
            for (int i = 0; i < 8; i++) {
                if (at[around[i]] == WE_EDGE_MAYBE) {
                    at[around[i]] = WE_EDGE_SURE;
                    stack[top++] = at + around[i] - k->marks;
                }
            }
        }
    }
}

static bool result_rows(void *context, int64_t begin, int64_t end) {
    const canny *k = context;
    for (int64_t y = begin; y < end; y++)
        k->c->kernels->threshold_u8(WE_THRESHOLD_BINARY, k->width, k->marks + (y + 1) * k->step + 1,
                                    WE_EDGE_NONE, 255, (uint8_t *)we_image_row(k->c->out, y));
    return true;
}

static we_status run_canny(const we_imaging_call *c, canny *k, int64_t *stack, we_error *err) {
    WE_TRY(we_imaging_rows(c, k->height, k->width * 16, mark_rows, k, err));
    follow(k, stack);
    return we_imaging_rows(c, k->height, k->width, result_rows, k, err);
}

/* Inputs: an image of bytes of one channel, whose gradients are Sobel's of 3 x 3, or derivatives across and
 * down (I16). Numbers: the low and the high threshold, whether sizes are Euclidean. */
we_status we_imaging_canny(const we_imaging_call *c, we_error *err) {
    canny k = {.c = c,
               .height = c->in->height,
               .width = c->in->width,
               .step = c->in->width + 2,
               .squares = c->p[2] != 0};
    if (c->in_count == 1) {
        k.bytes = c->in;
        WE_TRY(we_image_expect(k.bytes, WE_TYPE(U8), "Canny", err));
        if (k.bytes->channels != 1)
            return we_error_set(err, WE_INVALID_ARGUMENT, "Canny finds the gradients of one channel alone");
    } else {
        k.dx = &c->in[0];
        k.dy = &c->in[1];
        WE_TRY(we_image_expect(k.dx, WE_TYPE(I16), "Canny", err));
        WE_TRY(we_image_expect_like(k.dy, k.dx, "Canny", err));
    }
    WE_TRY(we_image_expect(c->out, WE_TYPE(U8), "Canny", err));
    if (c->out->height != k.height || c->out->width != k.width || c->out->channels != 1 || isnan(c->p[0]) ||
        isnan(c->p[1]))
        return we_error_set(err, WE_INVALID_ARGUMENT, "Canny takes two thresholds and makes one channel");
    if (we_image_is_empty(c->in))
        return WE_OK;
    double low = c->p[0], high = c->p[1];
    if (k.squares) {
        low = fmin(32767, low);
        high = fmin(32767, high);
        low = low > 0 ? low * low : low;
        high = high > 0 ? high * high : high;
    }
    k.low = we_round(floor(low));
    k.high = we_round(floor(high));
    size_t all = (size_t)((k.height + 2) * k.step);
    k.marks = we_memory_new_dirty(all);
    int64_t *stack = we_memory_new_dirty(all * sizeof(int64_t));
    we_status status;
    if (k.marks && stack) {
        memset(k.marks, WE_EDGE_NONE, all);
        status = run_canny(c, &k, stack, err);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(k.marks);
    we_memory_free(stack);
    return status;
}
