/* The kernels of image.inc as plain loops that compilers turn into vector code, so that one text serves every
 * instruction set and gives the same bits on all. IMAGE(name): the name of a kernel in the set being made. */
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define ALWAYS static inline __attribute__((always_inline))

/* Sums over taps: with few taps, their number is known to the loop, and the sum stays in a register. */
#define TAPS_OF(name, X, K, ACC, Y, finish)                                                                  \
    ALWAYS void name##_few(int64_t n, int32_t count, const X *const *x, const K *k, Y *restrict y) {         \
        const X *p[9];                                                                                       \
        ACC f[9];                                                                                            \
        for (int32_t t = 0; t < count; t++) {                                                                \
            p[t] = x[t];                                                                                     \
            f[t] = k[t];                                                                                     \
        }                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            ACC sum = (ACC)(f[0] * p[0][i]);                                                                 \
            for (int32_t t = 1; t < count; t++)                                                              \
                sum = (ACC)(sum + f[t] * p[t][i]);                                                           \
            y[i] = finish(sum);                                                                              \
        }                                                                                                    \
    }                                                                                                        \
    void IMAGE(name)(int64_t n, int32_t count, const X *const *x, const K *k, Y *y) {                        \
        enum { BLOCK = 128 };                                                                                \
        switch (count) {                                                                                     \
        case 1:                                                                                              \
            name##_few(n, 1, x, k, y);                                                                       \
            return;                                                                                          \
        case 2:                                                                                              \
            name##_few(n, 2, x, k, y);                                                                       \
            return;                                                                                          \
        case 3:                                                                                              \
            name##_few(n, 3, x, k, y);                                                                       \
            return;                                                                                          \
        case 5:                                                                                              \
            name##_few(n, 5, x, k, y);                                                                       \
            return;                                                                                          \
        case 7:                                                                                              \
            name##_few(n, 7, x, k, y);                                                                       \
            return;                                                                                          \
        case 9:                                                                                              \
            name##_few(n, 9, x, k, y);                                                                       \
            return;                                                                                          \
        default:                                                                                             \
            break;                                                                                           \
        }                                                                                                    \
        for (int64_t start = 0; start < n; start += BLOCK) {                                                 \
            ACC sums[BLOCK];                                                                                 \
            int64_t size = n - start < BLOCK ? n - start : BLOCK;                                            \
            for (int64_t i = 0; i < size; i++)                                                               \
                sums[i] = 0;                                                                                 \
            int32_t t = 0;                                                                                   \
            for (; t + 4 <= count; t += 4) {                                                                 \
                const X *a = x[t] + start, *b = x[t + 1] + start, *c = x[t + 2] + start,                     \
                        *d = x[t + 3] + start;                                                               \
                ACC ka = k[t], kb = k[t + 1], kc = k[t + 2], kd = k[t + 3];                                  \
                for (int64_t i = 0; i < size; i++)                                                           \
                    sums[i] = (ACC)((((sums[i] + ka * a[i]) + kb * b[i]) + kc * c[i]) + kd * d[i]);          \
            }                                                                                                \
            for (; t < count; t++) {                                                                         \
                const X *a = x[t] + start;                                                                   \
                ACC ka = k[t];                                                                               \
                for (int64_t i = 0; i < size; i++)                                                           \
                    sums[i] = (ACC)(sums[i] + ka * a[i]);                                                    \
            }                                                                                                \
            for (int64_t i = 0; i < size; i++)                                                               \
                y[start + i] = finish(sums[i]);                                                              \
        }                                                                                                    \
    }

#define AS_IS(sum) (sum)
#define NARROW(sum) ((uint8_t)(((sum) + 0x8000u) >> 16))
TAPS_OF(taps_u8_u16, uint8_t, uint16_t, uint16_t, uint16_t, AS_IS)
TAPS_OF(taps_u16_u8, uint16_t, uint16_t, uint32_t, uint8_t, NARROW)
TAPS_OF(taps_u8_i16, uint8_t, int16_t, int16_t, int16_t, AS_IS)
TAPS_OF(taps_i16, int16_t, int16_t, int16_t, int16_t, AS_IS)
TAPS_OF(taps_f32, float, float, float, float, AS_IS)
TAPS_OF(taps_f64, double, double, double, double, AS_IS)

#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define MORE(a, b) ((a) > (b) ? (a) : (b))

#define EXTREME_OF(name, X, better)                                                                          \
    ALWAYS void name##_few(int64_t n, int32_t count, const X *const *x, X *restrict y) {                     \
        const X *p[4];                                                                                       \
        for (int32_t t = 0; t < count; t++)                                                                  \
            p[t] = x[t];                                                                                     \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            X best = p[0][i];                                                                                \
            for (int32_t t = 1; t < count; t++)                                                              \
                best = better(best, p[t][i]);                                                                \
            y[i] = best;                                                                                     \
        }                                                                                                    \
    }                                                                                                        \
    void IMAGE(name)(int64_t n, int32_t count, const X *const *x, X *y) {                                    \
        switch (count) {                                                                                     \
        case 1:                                                                                              \
            name##_few(n, 1, x, y);                                                                          \
            return;                                                                                          \
        case 2:                                                                                              \
            name##_few(n, 2, x, y);                                                                          \
            return;                                                                                          \
        case 3:                                                                                              \
            name##_few(n, 3, x, y);                                                                          \
            return;                                                                                          \
        default:                                                                                             \
            break;                                                                                           \
        }                                                                                                    \
        name##_few(n, 3, x, y);                                                                              \
        for (int32_t t = 3; t < count; t++) {                                                                \
            const X *p = x[t];                                                                               \
            for (int64_t i = 0; i < n; i++)                                                                  \
                y[i] = better(y[i], p[i]);                                                                   \
        }                                                                                                    \
    }
EXTREME_OF(least_u8, uint8_t, LESS)
EXTREME_OF(most_u8, uint8_t, MORE)

#define SORT(i, j)                                                                                           \
    do {                                                                                                     \
        uint8_t low_ = LESS(v[i], v[j]), high_ = MORE(v[i], v[j]);                                           \
        v[i] = low_;                                                                                         \
        v[j] = high_;                                                                                        \
    } while (0)

/* Source: Paeth, "Median finding on a 3x3 grid" (Graphics Gems, 1990), as an exchange network. */
void IMAGE(middle9_u8)(int64_t n, const uint8_t *const *x, uint8_t *y) {
    const uint8_t *p[9];
    memcpy(p, x, sizeof p);
    for (int64_t i = 0; i < n; i++) {
        uint8_t v[9];
        for (int t = 0; t < 9; t++)
            v[t] = p[t][i];
        SORT(1, 2);
        SORT(4, 5);
        SORT(7, 8);
        SORT(0, 1);
        SORT(3, 4);
        SORT(6, 7);
        SORT(1, 2);
        SORT(4, 5);
        SORT(7, 8);
        SORT(0, 3);
        SORT(5, 8);
        SORT(4, 7);
        SORT(3, 6);
        SORT(1, 4);
        SORT(2, 5);
        SORT(4, 7);
        SORT(4, 2);
        SORT(6, 4);
        SORT(4, 2);
        y[i] = v[4];
    }
}

/* Source: Devillard, "Fast median search" (1998): an exchange network for 25. */
void IMAGE(middle25_u8)(int64_t n, const uint8_t *const *x, uint8_t *y) {
    const uint8_t *p[25];
    memcpy(p, x, sizeof p);
    for (int64_t i = 0; i < n; i++) {
        uint8_t v[25];
        for (int t = 0; t < 25; t++)
            v[t] = p[t][i];
        SORT(0, 1);
        SORT(3, 4);
        SORT(2, 4);
        SORT(2, 3);
        SORT(6, 7);
        SORT(5, 7);
        SORT(5, 6);
        SORT(9, 10);
        SORT(8, 10);
        SORT(8, 9);
        SORT(12, 13);
        SORT(11, 13);
        SORT(11, 12);
        SORT(15, 16);
        SORT(14, 16);
        SORT(14, 15);
        SORT(18, 19);
        SORT(17, 19);
        SORT(17, 18);
        SORT(21, 22);
        SORT(20, 22);
        SORT(20, 21);
        SORT(23, 24);
        SORT(2, 5);
        SORT(3, 6);
        SORT(0, 6);
        SORT(0, 3);
        SORT(4, 7);
        SORT(1, 7);
        SORT(1, 4);
        SORT(11, 14);
        SORT(8, 14);
        SORT(8, 11);
        SORT(12, 15);
        SORT(9, 15);
        SORT(9, 12);
        SORT(13, 16);
        SORT(10, 16);
        SORT(10, 13);
        SORT(20, 23);
        SORT(17, 23);
        SORT(17, 20);
        SORT(21, 24);
        SORT(18, 24);
        SORT(18, 21);
        SORT(19, 22);
        SORT(8, 17);
        SORT(9, 18);
        SORT(0, 18);
        SORT(0, 9);
        SORT(10, 19);
        SORT(1, 19);
        SORT(1, 10);
        SORT(11, 20);
        SORT(2, 20);
        SORT(2, 11);
        SORT(12, 21);
        SORT(3, 21);
        SORT(3, 12);
        SORT(13, 22);
        SORT(4, 22);
        SORT(4, 13);
        SORT(14, 23);
        SORT(5, 23);
        SORT(5, 14);
        SORT(15, 24);
        SORT(6, 24);
        SORT(6, 15);
        SORT(7, 16);
        SORT(7, 19);
        SORT(13, 21);
        SORT(15, 23);
        SORT(7, 13);
        SORT(7, 15);
        SORT(1, 9);
        SORT(3, 11);
        SORT(5, 17);
        SORT(11, 17);
        SORT(9, 17);
        SORT(4, 10);
        SORT(6, 12);
        SORT(7, 14);
        SORT(4, 6);
        SORT(4, 7);
        SORT(12, 14);
        SORT(10, 14);
        SORT(6, 7);
        SORT(10, 12);
        SORT(6, 10);
        SORT(6, 17);
        SORT(12, 17);
        SORT(7, 17);
        SORT(7, 10);
        SORT(12, 18);
        SORT(7, 12);
        SORT(10, 18);
        SORT(12, 20);
        SORT(10, 20);
        SORT(10, 12);
        y[i] = v[12];
    }
}

void IMAGE(slide_counts)(const uint16_t *in, const uint16_t *out, uint16_t *restrict sum) {
    for (int i = 0; i < 272; i++)
        sum[i] = (uint16_t)(sum[i] + in[i] - out[i]);
}

void IMAGE(slide_u8)(int64_t n, const uint8_t *in, const uint8_t *out, uint16_t *restrict sum) {
    if (out) {
        for (int64_t i = 0; i < n; i++)
            sum[i] = (uint16_t)(sum[i] + in[i] - out[i]);
    } else {
        for (int64_t i = 0; i < n; i++)
            sum[i] = (uint16_t)(sum[i] + in[i]);
    }
}

/* Adding and taking away 1.5 * 2^23 rounds as the hardware does, half to even, for |value| < 2^22. */
ALWAYS uint8_t rounded_byte(float value) {
    float kept = LESS(MORE(value, 0.0f), 255.0f);
    int32_t bits;
    float moved = kept + 12582912.0f;
    memcpy(&bits, &moved, sizeof bits);
    return (uint8_t)bits;
}

ALWAYS uint8_t box_mean(uint32_t sum, float scale, uint32_t by, uint32_t plus) {
    return by ? (uint8_t)(((sum + plus) * by) >> 24) : rounded_byte((float)(int32_t)sum * scale);
}

ALWAYS void box_few(int64_t n, int32_t taps, int64_t step, const uint16_t *x, float scale, uint32_t by,
                    uint32_t plus, uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t sum = x[i];
        for (int32_t t = 1; t < taps; t++)
            sum += x[i + t * step];
        y[i] = box_mean(sum, scale, by, plus);
    }
}

ALWAYS void box_any(int64_t n, int32_t taps, int64_t step, const uint16_t *x, float scale, uint32_t by,
                    uint32_t plus, uint8_t *restrict y) {
    for (int64_t c = 0; c < step && c < n; c++) {
        uint32_t sum = 0;
        for (int32_t t = 0; t < taps; t++)
            sum += x[c + t * step];
        for (int64_t i = c; i < n; i += step) {
            y[i] = box_mean(sum, scale, by, plus);
            if (i + step < n)
                sum += (uint32_t)x[i + taps * step] - x[i];
        }
    }
}

void IMAGE(box_u16_u8)(int64_t n, int32_t taps, int64_t step, const uint16_t *x, float scale, uint32_t by,
                       uint32_t plus, uint8_t *y) {
    if (by == 0)
        box_any(n, taps, step, x, scale, 0, 0, y);
    else if (taps == 3)
        box_few(n, 3, step, x, 0, by, plus, y);
    else if (taps == 5)
        box_few(n, 5, step, x, 0, by, plus, y);
    else if (taps == 7)
        box_few(n, 7, step, x, 0, by, plus, y);
    else
        box_any(n, taps, step, x, 0, by, plus, y);
}

void IMAGE(round_f32_u8)(int64_t n, const float *x, uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = rounded_byte(x[i]);
}

void IMAGE(widen_u8_f32)(int64_t n, const uint8_t *x, float *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i];
}

ALWAYS void resize_channels(int64_t n, int32_t channels, const uint8_t *x, const int32_t *at, int32_t step,
                            const int16_t *w, int16_t *restrict y) {
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *p = x + at[i];
        for (int32_t c = 0; c < channels; c++)
            y[i * channels + c] = (int16_t)((p[c] * w[2 * i] + p[step + c] * w[2 * i + 1]) >> 4);
    }
}

void IMAGE(resize_u8)(int64_t n, int32_t channels, const uint8_t *x, const int32_t *at, int32_t step,
                      const int16_t *w, int16_t *y) {
    switch (channels) {
    case 1:
        resize_channels(n, 1, x, at, step, w, y);
        break;
    case 3:
        resize_channels(n, 3, x, at, step, w, y);
        break;
    case 4:
        resize_channels(n, 4, x, at, step, w, y);
        break;
    default:
        resize_channels(n, channels, x, at, step, w, y);
        break;
    }
}

void IMAGE(lerp_i16_u8)(int64_t n, const int16_t *a, const int16_t *b, int16_t wa, int16_t wb,
                        uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++) {
        int16_t high = (int16_t)((a[i] * wa) >> 16), low = (int16_t)((b[i] * wb) >> 16);
        y[i] = (uint8_t)((int16_t)(high + low + 2) >> 2);
    }
}

void IMAGE(lerp_f32)(int64_t n, const float *a, const float *b, float wa, float wb, float *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * wa + b[i] * wb;
}

ALWAYS void halve_channels(int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b,
                           uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < channels; c++) {
            int64_t left = 2 * i * channels + c, right = left + channels;
            y[i * channels + c] = (uint8_t)((a[left] + a[right] + b[left] + b[right] + 2) >> 2);
        }
    }
}

void IMAGE(halve_u8)(int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b, uint8_t *y) {
    switch (channels) {
    case 1:
        halve_channels(n, 1, a, b, y);
        break;
    case 3:
        halve_channels(n, 3, a, b, y);
        break;
    case 4:
        halve_channels(n, 4, a, b, y);
        break;
    default:
        halve_channels(n, channels, a, b, y);
        break;
    }
}

void IMAGE(split_u8)(int64_t n, int32_t channels, const uint8_t *x, uint8_t *const *planes) {
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

void IMAGE(merge_u8)(int64_t n, int32_t channels, const uint8_t *const *planes, uint8_t *restrict y) {
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

ALWAYS uint8_t byte_of(int32_t value) {
    return (uint8_t)LESS(MORE(value, 0), 255);
}

void IMAGE(mix_u8)(int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, const int32_t *k,
                   int32_t shift, uint8_t *restrict y) {
    int32_t ka = k[0], kb = k[1], kc = k[2], start = k[3];
    for (int64_t i = 0; i < n; i++)
        y[i] = byte_of((a[i] * ka + b[i] * kb + c[i] * kc + start) >> shift);
}

/* ITU-R BT.601 in 20 bits, as OpenCV has it. */
void IMAGE(video_u8)(int64_t n, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                     uint8_t *const *planes) {
    uint8_t *restrict b = planes[0], *restrict g = planes[1], *restrict r = planes[2];
    for (int64_t i = 0; i < n / 2; i++) {
        int32_t du = u[i] - 128, dv = v[i] - 128;
        int32_t addb = (1 << 19) + 2116026 * du, addg = (1 << 19) - 409993 * du - 852492 * dv,
                addr = (1 << 19) + 1673527 * dv;
        int32_t first = MORE(y[2 * i] - 16, 0) * 1220542, second = MORE(y[2 * i + 1] - 16, 0) * 1220542;
        b[2 * i] = byte_of((first + addb) >> 20);
        b[2 * i + 1] = byte_of((second + addb) >> 20);
        g[2 * i] = byte_of((first + addg) >> 20);
        g[2 * i + 1] = byte_of((second + addg) >> 20);
        r[2 * i] = byte_of((first + addr) >> 20);
        r[2 * i + 1] = byte_of((second + addr) >> 20);
    }
}

/* cvRound((2^12 * top) / i) by float division: exact, as no quotient here comes near a half. */
ALWAYS int32_t twelve_bits(float top, int32_t by) {
    float moved = top / (float)by + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &moved, sizeof bits);
    return by == 0 ? 0 : bits - 0x4B400000;
}

void IMAGE(hsv_u8)(int64_t n, const uint8_t *b, const uint8_t *g, const uint8_t *r, int32_t range,
                   uint8_t *restrict h, uint8_t *restrict s, uint8_t *restrict v) {
    for (int64_t i = 0; i < n; i++) {
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

void IMAGE(unhsv_u8)(int64_t n, const uint8_t *h, const uint8_t *s, const uint8_t *v, float scale,
                     uint8_t *const *planes) {
    uint8_t *restrict b = planes[0], *restrict g = planes[1], *restrict r = planes[2];
    for (int64_t i = 0; i < n; i++) {
        float angle = (float)h[i] * scale, sat = (float)s[i] * (1.0f / 255.0f),
              value = (float)v[i] * (1.0f / 255.0f);
        int32_t sector = (int32_t)angle; /* truncates, and the angle is not negative */
        float f = angle - (float)sector;
        sector = sector >= 6 ? sector - 6 : sector;
        float low = value * (1 - sat), down = value * (1 - sat * f), up = value * (1 - sat * (1 - f));
        float blue = sector < 2 ? low : sector == 2 ? up : sector < 5 ? value : down;
        float green = sector == 0 ? up : sector < 3 ? value : sector == 3 ? down : low;
        float red = sector == 0 ? value : sector == 1 ? down : sector < 4 ? low : sector == 4 ? up : value;
        b[i] = rounded_byte(blue * 255.0f);
        g[i] = rounded_byte(green * 255.0f);
        r[i] = rounded_byte(red * 255.0f);
    }
}

void IMAGE(blend_u8)(int64_t n, const uint8_t *a, const uint8_t *b, float wa, float wb, float start,
                     uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = rounded_byte((float)a[i] * wa + ((float)b[i] * wb + start));
}

void IMAGE(scale_abs_u8)(int64_t n, const uint8_t *x, float scale, float shift, uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = rounded_byte(fabsf((float)x[i] * scale + shift));
}

ALWAYS void normalise_channels(int64_t n, int32_t channels, const uint8_t *x, const float *scale,
                               const float *shift, float *const *planes) {
    for (int32_t c = 0; c < channels; c++) {
        float *restrict y = planes[c];
        float by = scale[c], plus = shift[c];
        for (int64_t i = 0; i < n; i++)
            y[i] = (float)x[i * channels + c] * by + plus;
    }
}

void IMAGE(normalise_u8)(int64_t n, int32_t channels, const uint8_t *x, const float *scale,
                         const float *shift, float *const *planes) {
    switch (channels) {
    case 1:
        normalise_channels(n, 1, x, scale, shift, planes);
        break;
    case 3:
        normalise_channels(n, 3, x, scale, shift, planes);
        break;
    default:
        normalise_channels(n, channels, x, scale, shift, planes);
        break;
    }
}
