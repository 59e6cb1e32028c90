/* The kernels of image.inc that read pixels of several channels or mix wide integers, one element at a time:
 * the whole reference, and of the vector sets what is left over. Each makes results i to n - 1. */
#ifndef WE_KERNELS_SIMD_IMAGE_PIXELS_PLAIN_H
#define WE_KERNELS_SIMD_IMAGE_PIXELS_PLAIN_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define ALWAYS static inline __attribute__((always_inline))
#define PLAIN static inline __attribute__((unused))
#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define MORE(a, b) ((a) > (b) ? (a) : (b))

/* BT.601 in 20 bits, as OpenCV has it. */
enum {
    VIDEO_Y = 1220542,
    VIDEO_B_OF_U = 2116026,
    VIDEO_G_OF_U = -409993,
    VIDEO_G_OF_V = -852492,
    VIDEO_R_OF_V = 1673527,
    VIDEO_ROUND = 1 << 19,
};

ALWAYS uint8_t byte_of(int32_t value) {
    return (uint8_t)LESS(MORE(value, 0), 255);
}

/* Adding 1.5 * 2^23 rounds as the hardware does, half to even, for |value| < 2^22; its bits end in the
 * integer. */
#define ROUNDER 12582912.0f
#define ROUNDER_BITS 0x4B400000

ALWAYS int32_t rounded_bits(float value) {
    float moved = value + ROUNDER;
    int32_t bits;
    memcpy(&bits, &moved, sizeof bits);
    return bits;
}

ALWAYS uint8_t rounded_byte(float value) {
    return (uint8_t)rounded_bits(LESS(MORE(value, 0.0f), 255.0f));
}

/* ---- Colours ---- */

PLAIN void mix_plain(int64_t i, int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c,
                     const int32_t *k, int32_t shift, uint8_t *y) {
    for (; i < n; i++)
        y[i] = byte_of((a[i] * k[0] + b[i] * k[1] + c[i] * k[2] + k[3]) >> shift);
}

PLAIN void video_plain(int64_t i, int64_t n, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                       uint8_t *const *planes) {
    for (; i < n; i++) {
        int32_t du = u[i / 2] - 128, dv = v[i / 2] - 128, luma = MORE(y[i] - 16, 0) * VIDEO_Y + VIDEO_ROUND;
        planes[0][i] = byte_of((luma + VIDEO_B_OF_U * du) >> 20);
        planes[1][i] = byte_of((luma + VIDEO_G_OF_U * du + VIDEO_G_OF_V * dv) >> 20);
        planes[2][i] = byte_of((luma + VIDEO_R_OF_V * dv) >> 20);
    }
}

/* cvRound((2^12 * top) / by) by float division: exact, as no quotient here comes near a half. */
ALWAYS int32_t twelve_bits(float top, int32_t by) {
    return by == 0 ? 0 : rounded_bits(top / (float)by) - ROUNDER_BITS;
}

PLAIN void hsv_plain(int64_t i, int64_t n, const uint8_t *b, const uint8_t *g, const uint8_t *r,
                     int32_t range, uint8_t *h, uint8_t *s, uint8_t *v) {
    for (; i < n; i++) {
        int32_t blue = b[i], green = g[i], red = r[i];
        int32_t most = MORE(MORE(blue, green), red), least = LESS(LESS(blue, green), red),
                spread = most - least;
        int32_t angle = most == red     ? green - blue
                        : most == green ? blue - red + 2 * spread
                                        : red - green + 4 * spread;
        int32_t hue = (angle * twelve_bits((float)(range << 12) / 6.0f, spread) + (1 << 11)) >> 12;
        h[i] = byte_of(hue < 0 ? hue + range : hue);
        s[i] = (uint8_t)((spread * twelve_bits((float)(255 << 12), most) + (1 << 11)) >> 12);
        v[i] = (uint8_t)most;
    }
}

PLAIN void unhsv_plain(int64_t i, int64_t n, const uint8_t *h, const uint8_t *s, const uint8_t *v,
                       float scale, uint8_t *const *planes) {
    for (; i < n; i++) {
        float angle = (float)h[i] * scale, sat = (float)s[i] * (1.0f / 255.0f),
              value = (float)v[i] * (1.0f / 255.0f);
        int32_t sector = (int32_t)angle; /* truncates, and the angle is not negative */
        float f = angle - (float)sector;
        sector = sector >= 6 ? sector - 6 : sector;
        float low = value * (1 - sat), down = value * (1 - sat * f), up = value * (1 - sat * (1 - f));
        float blue = sector < 2 ? low : sector == 2 ? up : sector < 5 ? value : down;
        float green = sector == 0 ? up : sector < 3 ? value : sector == 3 ? down : low;
        float red = sector == 0 ? value : sector == 1 ? down : sector < 4 ? low : sector == 4 ? up : value;
        planes[0][i] = rounded_byte(blue * 255.0f);
        planes[1][i] = rounded_byte(green * 255.0f);
        planes[2][i] = rounded_byte(red * 255.0f);
    }
}

/* Compilers make good vectors of these two, but for three channels. */
PLAIN void split_plain(int64_t n, int32_t channels, const uint8_t *x, uint8_t *const *planes) {
    uint8_t *restrict a = planes[0], *restrict b = planes[1];
    if (channels == 2) {
        for (int64_t i = 0; i < n; i++) {
            a[i] = x[2 * i];
            b[i] = x[2 * i + 1];
        }
        return;
    }
    uint8_t *restrict c = planes[2];
    if (channels == 3) {
        for (int64_t i = 0; i < n; i++) {
            a[i] = x[3 * i];
            b[i] = x[3 * i + 1];
            c[i] = x[3 * i + 2];
        }
        return;
    }
    uint8_t *restrict d = planes[3];
    for (int64_t i = 0; i < n; i++) {
        a[i] = x[4 * i];
        b[i] = x[4 * i + 1];
        c[i] = x[4 * i + 2];
        d[i] = x[4 * i + 3];
    }
}

PLAIN void merge_plain(int64_t n, int32_t channels, const uint8_t *const *planes, uint8_t *restrict y) {
    const uint8_t *a = planes[0], *b = planes[1];
    if (channels == 2) {
        for (int64_t i = 0; i < n; i++) {
            y[2 * i] = a[i];
            y[2 * i + 1] = b[i];
        }
        return;
    }
    const uint8_t *c = planes[2];
    if (channels == 3) {
        for (int64_t i = 0; i < n; i++) {
            y[3 * i] = a[i];
            y[3 * i + 1] = b[i];
            y[3 * i + 2] = c[i];
        }
        return;
    }
    const uint8_t *d = planes[3];
    for (int64_t i = 0; i < n; i++) {
        y[4 * i] = a[i];
        y[4 * i + 1] = b[i];
        y[4 * i + 2] = c[i];
        y[4 * i + 3] = d[i];
    }
}

/* ---- Places ---- */

PLAIN void order_plain(int64_t i, int64_t n, int32_t from, int32_t to, const int8_t *order, const uint8_t *x,
                       uint8_t *y) {
    for (; i < n; i++) {
        for (int32_t c = 0; c < to; c++)
            y[i * to + c] = order[c] < 0 ? 255 : x[i * from + order[c]];
    }
}

PLAIN void reverse_plain(int64_t i, int64_t n, int32_t size, const uint8_t *x, uint8_t *y) {
    for (; i < n; i++)
        memcpy(y + i * size, x + (n - 1 - i) * size, (size_t)size);
}

PLAIN void transpose_plain(int64_t rows, int64_t columns, const uint8_t *in, int64_t in_row, uint8_t *out,
                           int64_t out_row) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++)
            out[i * out_row + j] = in[j * in_row + i];
    }
}

PLAIN void resize_plain(int64_t i, int64_t n, int32_t channels, const uint8_t *x, const int32_t *at,
                        int32_t step, const int16_t *w, int16_t *y) {
    for (; i < n; i++) {
        const uint8_t *p = x + at[i];
        for (int32_t c = 0; c < channels; c++)
            y[i * channels + c] = (int16_t)((p[c] * w[2 * i] + p[step + c] * w[2 * i + 1]) >> 4);
    }
}

PLAIN void halve_plain(int64_t i, int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b,
                       uint8_t *y) {
    for (; i < n; i++) {
        for (int32_t c = 0; c < channels; c++) {
            int64_t left = 2 * i * channels + c, right = left + channels;
            y[i * channels + c] = (uint8_t)((a[left] + a[right] + b[left] + b[right] + 2) >> 2);
        }
    }
}

/* Far outside is all the same; NaN, too, is outside. */
ALWAYS float kept_near(float v) {
    float above = v >= -1e9f ? v : -1e9f;
    return above <= 1e9f ? above : 1e9f;
}

ALWAYS int32_t weight_of(float part) {
    return (int32_t)(part * 16384.0f + 0.5f);
}

/* The weights sum to 2^14 whatever is rounded, so that flat images stay flat. */
PLAIN void corners_plain(int64_t i, int64_t n, const float *px, const float *py, const we_image_grid *g,
                         int32_t *at, int16_t *top, int16_t *bottom) {
    for (; i < n; i++) {
        float x = kept_near(px[i]), y = kept_near(py[i]), left = floorf(x), above = floorf(y);
        int32_t sx = (int32_t)left, sy = (int32_t)above,
                offset = (int32_t)((uint32_t)sy * (uint32_t)g->row + (uint32_t)sx * (uint32_t)g->pixel);
        bool outside = sx < -1 || sx > g->width - 1 || sy < -1 || sy > g->height - 1;
        bool edge = sx < 0 || sx > g->width - 2 || sy < 0 || sy > g->height - 2 || offset > g->most;
        at[i] = outside ? WE_OUTSIDE : edge ? WE_EDGE : offset;
        float fx = x - left, fy = y - above;
        int32_t wx = weight_of(fx), wy = weight_of(fy), both = weight_of(fx * fy);
        top[2 * i] = (int16_t)(16384 - wx - wy + both);
        top[2 * i + 1] = (int16_t)(wx - both);
        bottom[2 * i] = (int16_t)(wy - both);
        bottom[2 * i + 1] = (int16_t)both;
    }
}

PLAIN void spots_plain(int64_t i, int64_t n, const float *px, const float *py, const we_image_grid *g,
                       int32_t *at) {
    for (; i < n; i++) {
        int32_t sx = (int32_t)lrintf(kept_near(px[i])), sy = (int32_t)lrintf(kept_near(py[i]));
        bool inside = sx >= 0 && sx < g->width && sy >= 0 && sy < g->height;
        at[i] = inside ? sy * g->row + sx * g->pixel : WE_OUTSIDE;
    }
}

PLAIN void bilinear_plain(int64_t i, int64_t n, int32_t channels, const uint8_t *x, int64_t row,
                          const int32_t *at, const int16_t *top, const int16_t *bottom, uint8_t *y) {
    for (; i < n; i++) {
        const uint8_t *a = x + at[i], *b = a + row;
        const int16_t *wa = top + 2 * i, *wb = bottom + 2 * i;
        for (int32_t c = 0; c < channels; c++)
            y[i * channels + c] = (uint8_t)((a[c] * wa[0] + a[c + channels] * wa[1] + b[c] * wb[0] +
                                             b[c + channels] * wb[1] + (1 << 13)) >>
                                            14);
    }
}

PLAIN void weigh_plain(int64_t i, int64_t n, int32_t channels, int32_t taps, const uint8_t *x,
                       const int32_t *at, const int16_t *w, int32_t *y) {
    for (; i < n; i++) {
        const uint8_t *p = x + at[i];
        for (int32_t c = 0; c < channels; c++) {
            int32_t sum = 0;
            for (int32_t t = 0; t < taps; t++)
                sum += p[t * channels + c] * w[2 * (t / 2 * n + i) + t % 2];
            y[i * channels + c] = sum;
        }
    }
}

#endif
