/* Canny's edges, of gradients that were made before. */
#include "imaging/imaging.h"

/* Marks of the map: may be an edge, is none, is one. */
enum { MAYBE, NONE, EDGE };

typedef struct canny {
    const we_image *dx, *dy;
    int32_t *sizes;                   /* of gradients, a border of zeros round them */
    uint8_t *marks;                   /* likewise, of NONE */
    int16_t *gradient_x, *gradient_y; /* of the channel with the largest; where there are several */
    int64_t step, height, width;
    int32_t low, high;
    bool squares;
} canny;

static bool size_rows(void *context, int64_t begin, int64_t end) {
    const canny *k = context;
    int64_t channels = k->dx->channels;
    for (int64_t y = begin; y < end; y++) {
        const int16_t *dx = (const int16_t *)(const void *)we_image_row(k->dx, y);
        const int16_t *dy = (const int16_t *)(const void *)we_image_row(k->dy, y);
        int32_t *to = k->sizes + (y + 1) * k->step + 1;
        if (channels == 1) {
            if (k->squares) {
                for (int64_t x = 0; x < k->width; x++)
                    to[x] = dx[x] * dx[x] + dy[x] * dy[x];
            } else {
                for (int64_t x = 0; x < k->width; x++)
                    to[x] = (dx[x] < 0 ? -dx[x] : dx[x]) + (dy[x] < 0 ? -dy[x] : dy[x]);
            }
            continue;
        }
        for (int64_t x = 0; x < k->width; x++) {
            to[x] = -1;
            for (int64_t c = 0; c < channels; c++) {
                int32_t a = dx[x * channels + c], b = dy[x * channels + c];
                int32_t size = k->squares ? a * a + b * b : (a < 0 ? -a : a) + (b < 0 ? -b : b);
                if (size > to[x]) {
                    to[x] = size;
                    k->gradient_x[y * k->width + x] = (int16_t)a;
                    k->gradient_y[y * k->width + x] = (int16_t)b;
                }
            }
        }
    }
    return true;
}

/* Only the largest along the gradient may be edges. The tangent of 22.5 degrees in 15 bits. */
static bool thin_rows(void *context, int64_t begin, int64_t end) {
    enum { TANGENT = 13573 };
    const canny *k = context;
    bool packed = k->gradient_x != NULL;
    for (int64_t y = begin; y < end; y++) {
        const int16_t *dx =
            packed ? k->gradient_x + y * k->width : (const int16_t *)(const void *)we_image_row(k->dx, y);
        const int16_t *dy =
            packed ? k->gradient_y + y * k->width : (const int16_t *)(const void *)we_image_row(k->dy, y);
        const int32_t *m = k->sizes + (y + 1) * k->step + 1, *above = m - k->step, *below = m + k->step;
        uint8_t *mark = k->marks + (y + 1) * k->step + 1;
        for (int64_t x = 0; x < k->width; x++) {
            mark[x] = NONE;
            if (m[x] <= k->low)
                continue;
            int32_t ax = dx[x] < 0 ? -dx[x] : dx[x];
            int64_t ay = (int64_t)(dy[x] < 0 ? -dy[x] : dy[x]) << 15, low = (int64_t)ax * TANGENT;
            bool largest;
            if (ay < low) {
                largest = m[x] > m[x - 1] && m[x] >= m[x + 1];
            } else if (ay > low + ((int64_t)ax << 16)) {
                largest = m[x] > above[x] && m[x] >= below[x];
            } else {
                int64_t side = (dx[x] ^ dy[x]) < 0 ? -1 : 1;
                largest = m[x] > above[x - side] && m[x] > below[x + side];
            }
            if (largest)
                mark[x] = m[x] > k->high ? EDGE : MAYBE;
        }
    }
    return true;
}

/* What may be an edge and touches one is one. */
static void follow(const canny *k, int64_t *stack) {
    const int64_t around[8] = {-k->step - 1, -k->step, -k->step + 1, -1, 1,
                               k->step - 1,  k->step,  k->step + 1};
    for (int64_t y = 1; y <= k->height; y++) {
        for (int64_t x = 1; x <= k->width; x++) {
            int64_t top = 0;
            if (k->marks[y * k->step + x] == EDGE)
                stack[top++] = y * k->step + x;
            while (top > 0) {
                int64_t at = stack[--top];
                for (int i = 0; i < 8; i++) {
                    if (k->marks[at + around[i]] == MAYBE) {
                        k->marks[at + around[i]] = EDGE;
                        stack[top++] = at + around[i];
                    }
                }
            }
        }
    }
}

static we_status run_canny(const we_imaging_call *c, canny *k, int64_t *stack, we_error *err) {
    WE_TRY(we_imaging_rows(c, k->height, k->width * 8, size_rows, k, err));
    WE_TRY(we_imaging_rows(c, k->height, k->width * 8, thin_rows, k, err));
    follow(k, stack);
    for (int64_t y = 0; y < k->height; y++) {
        const uint8_t *mark = k->marks + (y + 1) * k->step + 1;
        uint8_t *to = (uint8_t *)we_image_row(c->out, y);
        for (int64_t x = 0; x < k->width; x++)
            to[x] = (uint8_t)-(mark[x] >> 1);
    }
    return WE_OK;
}

/* Inputs: derivatives across and down (I16). Numbers: the low and the high threshold, whether sizes are
 * Euclidean. */
we_status we_imaging_canny(const we_imaging_call *c, we_error *err) {
    canny k = {.dx = &c->in[0],
               .dy = &c->in[1],
               .height = c->in->height,
               .width = c->in->width,
               .step = c->in->width + 2,
               .squares = c->p[2] != 0};
    WE_TRY(we_image_expect(k.dx, WE_TYPE(I16), "Canny", err));
    WE_TRY(we_image_expect_like(k.dy, k.dx, "Canny", err));
    WE_TRY(we_image_expect(c->out, WE_TYPE(U8), "Canny", err));
    if (c->out->height != k.height || c->out->width != k.width || c->out->channels != 1 || isnan(c->p[0]) ||
        isnan(c->p[1]))
        return we_error_set(err, WE_INVALID_ARGUMENT, "Canny takes two thresholds and makes one channel");
    if (we_image_is_empty(k.dx))
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
    k.sizes = we_memory_new(all * sizeof(int32_t));
    k.marks = we_memory_new_dirty(all);
    int64_t *stack = we_memory_new_dirty(all * sizeof(int64_t));
    bool several = k.dx->channels > 1;
    if (several) {
        k.gradient_x = we_memory_new_dirty(all * sizeof(int16_t));
        k.gradient_y = we_memory_new_dirty(all * sizeof(int16_t));
    }
    we_status status;
    if (k.sizes && k.marks && stack && (!several || (k.gradient_x && k.gradient_y))) {
        memset(k.marks, NONE, all);
        status = run_canny(c, &k, stack, err);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(k.sizes);
    we_memory_free(k.marks);
    we_memory_free(stack);
    we_memory_free(k.gradient_x);
    we_memory_free(k.gradient_y);
    return status;
}
