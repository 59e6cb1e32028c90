/* The plain kernels of pixels, to be named by IMAGE(name); image.inc says what each function does. */
#include "kernels/simd/image_pixels_plain.h"

#define PIXELS_KERNEL(name, plain, parameters, ...)                                                          \
    void IMAGE(name) parameters {                                                                            \
        plain(0, __VA_ARGS__);                                                                               \
    }
PIXELS_KERNEL(mix_u8, mix_plain,
              (int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, const int32_t *k,
               int32_t shift, uint8_t *y),
              n, a, b, c, k, shift, y)
PIXELS_KERNEL(video_u8, video_plain,
              (int64_t n, const uint8_t *y, const uint8_t *u, const uint8_t *v, uint8_t *const *planes), n, y,
              u, v, planes)
PIXELS_KERNEL(hsv_u8, hsv_plain,
              (int64_t n, const uint8_t *b, const uint8_t *g, const uint8_t *r, int32_t range, uint8_t *h,
               uint8_t *s, uint8_t *v),
              n, b, g, r, range, h, s, v)
PIXELS_KERNEL(unhsv_u8, unhsv_plain,
              (int64_t n, const uint8_t *h, const uint8_t *s, const uint8_t *v, float scale,
               uint8_t *const *planes),
              n, h, s, v, scale, planes)
PIXELS_KERNEL(order_u8, order_plain,
              (int64_t n, int32_t from, int32_t to, const int8_t *order, const uint8_t *x, uint8_t *y), n,
              from, to, order, x, y)
PIXELS_KERNEL(reverse_u8, reverse_plain, (int64_t n, int32_t size, const uint8_t *x, uint8_t *y), n, size, x,
              y)
PIXELS_KERNEL(resize_u8, resize_plain,
              (int64_t n, int32_t channels, const uint8_t *x, const int32_t *at, int32_t step,
               const int16_t *w, int16_t *y),
              n, channels, x, at, step, w, y)
PIXELS_KERNEL(halve_u8, halve_plain,
              (int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b, uint8_t *y), n, channels, a,
              b, y)
PIXELS_KERNEL(spots, spots_plain,
              (int64_t n, const float *px, const float *py, const we_image_grid *grid, int32_t *at), n, px,
              py, grid, at)
PIXELS_KERNEL(corners, corners_plain,
              (int64_t n, const float *px, const float *py, const we_image_grid *grid, int32_t *at,
               int16_t *top, int16_t *bottom),
              n, px, py, grid, at, top, bottom)
PIXELS_KERNEL(bilinear_u8, bilinear_plain,
              (int64_t n, int32_t channels, const uint8_t *x, int64_t row, const int32_t *at,
               const int16_t *top, const int16_t *bottom, uint8_t *y),
              n, channels, x, row, at, top, bottom, y)
PIXELS_KERNEL(weigh_u8, weigh_plain,
              (int64_t n, int32_t channels, int32_t taps, const uint8_t *x, const int32_t *at,
               const int16_t *w, int32_t *y),
              n, channels, taps, x, at, w, y)

void IMAGE(split_u8)(int64_t n, int32_t channels, const uint8_t *x, uint8_t *const *planes) {
    split_plain(n, channels, x, planes);
}

void IMAGE(merge_u8)(int64_t n, int32_t channels, const uint8_t *const *planes, uint8_t *y) {
    merge_plain(n, channels, planes, y);
}

void IMAGE(transpose_u8)(int64_t rows, int64_t columns, const uint8_t *in, int64_t in_row, uint8_t *out,
                         int64_t out_row) {
    transpose_plain(rows, columns, in, in_row, out, out_row);
}
