/* The plain kernels of pixels; image.inc says what each function does. */
#include "kernels/simd/image_pixels_plain.h"

#define REF(name, plain, parameters, ...)                                                                    \
    void we_image_##name##__ref parameters {                                                                 \
        plain(0, __VA_ARGS__);                                                                               \
    }
REF(mix_u8, mix_plain,
    (int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, const int32_t *k, int32_t shift,
     uint8_t *y),
    n, a, b, c, k, shift, y)
REF(video_u8, video_plain,
    (int64_t n, const uint8_t *y, const uint8_t *u, const uint8_t *v, uint8_t *const *planes), n, y, u, v,
    planes)
REF(hsv_u8, hsv_plain,
    (int64_t n, const uint8_t *b, const uint8_t *g, const uint8_t *r, int32_t range, uint8_t *h, uint8_t *s,
     uint8_t *v),
    n, b, g, r, range, h, s, v)
REF(unhsv_u8, unhsv_plain,
    (int64_t n, const uint8_t *h, const uint8_t *s, const uint8_t *v, float scale, uint8_t *const *planes), n,
    h, s, v, scale, planes)
REF(order_u8, order_plain,
    (int64_t n, int32_t from, int32_t to, const int8_t *order, const uint8_t *x, uint8_t *y), n, from, to,
    order, x, y)
REF(reverse_u8, reverse_plain, (int64_t n, int32_t size, const uint8_t *x, uint8_t *y), n, size, x, y)
REF(resize_u8, resize_plain,
    (int64_t n, int32_t channels, const uint8_t *x, const int32_t *at, int32_t step, const int16_t *w,
     int16_t *y),
    n, channels, x, at, step, w, y)
REF(halve_u8, halve_plain, (int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b, uint8_t *y), n,
    channels, a, b, y)
REF(spots, spots_plain, (int64_t n, const float *px, const float *py, const we_image_grid *grid, int32_t *at),
    n, px, py, grid, at)
REF(corners, corners_plain,
    (int64_t n, const float *px, const float *py, const we_image_grid *grid, int32_t *at, int16_t *top,
     int16_t *bottom),
    n, px, py, grid, at, top, bottom)
REF(bilinear_u8, bilinear_plain,
    (int64_t n, int32_t channels, const uint8_t *x, int64_t row, const int32_t *at, const int16_t *top,
     const int16_t *bottom, uint8_t *y),
    n, channels, x, row, at, top, bottom, y)
REF(weigh_u8, weigh_plain,
    (int64_t n, int32_t channels, int32_t taps, const uint8_t *x, const int32_t *at, const int16_t *w,
     int32_t *y),
    n, channels, taps, x, at, w, y)

void we_image_split_u8__ref(int64_t n, int32_t channels, const uint8_t *x, uint8_t *const *planes) {
    split_plain(n, channels, x, planes);
}

void we_image_merge_u8__ref(int64_t n, int32_t channels, const uint8_t *const *planes, uint8_t *y) {
    merge_plain(n, channels, planes, y);
}

void we_image_transpose_u8__ref(int64_t rows, int64_t columns, const uint8_t *in, int64_t in_row,
                                uint8_t *out, int64_t out_row) {
    transpose_plain(rows, columns, in, in_row, out, out_row);
}
