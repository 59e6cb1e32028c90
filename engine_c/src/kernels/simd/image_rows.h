/* The kernels of image.inc as plain loops that compilers turn into vector code, so that one text serves every
 * instruction set and gives the same bits on all. IMAGE(name): the name of a kernel in the set being made. */
#include <math.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/kernels.h"

#define ALWAYS static inline __attribute__((always_inline))

#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define MORE(a, b) ((a) > (b) ? (a) : (b))

/* Adding and taking away 1.5 * 2^23 rounds as the hardware does, half to even, for |value| < 2^22. */
ALWAYS uint8_t rounded_byte(float value) {
    float kept = LESS(MORE(value, 0.0f), 255.0f);
    int32_t bits;
    float moved = kept + 12582912.0f;
    memcpy(&bits, &moved, sizeof bits);
    return (uint8_t)bits;
}

/* Bytes to floats and back, a vector at a time: the compiler makes masks of the two bounds. */
#if defined(__AVX512BW__)
typedef __m512 floats;
enum { FLOATS = 16 };
#define ALL_FLOATS(x) _mm512_set1_ps(x)
#define LOAD_FLOATS(x) _mm512_loadu_ps(x)
#define FLOATS_OF_BYTES(x)                                                                                   \
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(x))))
#define FLOATS_OF_I32(x) _mm512_cvtepi32_ps(_mm512_loadu_si512(x))
#define LARGER_FLOATS(a, b) _mm512_max_ps(a, b)

/* As rounded_byte; the second operand is what comes out where one is NaN. */
ALWAYS __m512i rounded(floats v) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(255), v));
}

ALWAYS void store_rounded(uint8_t *y, const floats *v) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i low = _mm512_packs_epi32(rounded(v[0]), rounded(v[1]));
    __m512i high = _mm512_packs_epi32(rounded(v[2]), rounded(v[3]));
    _mm512_storeu_si512(y, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
}
#elif defined(__AVX2__)
typedef __m256 floats;
enum { FLOATS = 8 };
#define ALL_FLOATS(x) _mm256_set1_ps(x)
#define LOAD_FLOATS(x) _mm256_loadu_ps(x)
#define FLOATS_OF_BYTES(x)                                                                                   \
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(x))))
#define FLOATS_OF_I32(x) _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(x)))
#define LARGER_FLOATS(a, b) _mm256_max_ps(a, b)

ALWAYS __m256i rounded(floats v) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(255), v));
}

ALWAYS void store_rounded(uint8_t *y, const floats *v) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i low = _mm256_packs_epi32(rounded(v[0]), rounded(v[1]));
    __m256i high = _mm256_packs_epi32(rounded(v[2]), rounded(v[3]));
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
    _mm256_storeu_si256((__m256i *)(void *)y, bytes);
}
#endif

/* y[i] = rounded_byte(scalar); `vector` is the same of FLOATS elements from `at` on. The last four vectors
 * may overlap those before. */
#if defined(__AVX2__)
#define ROUNDED_LOOP(n, y, vector, scalar)                                                                   \
    do {                                                                                                     \
        int64_t last_ = (n) - 4 * FLOATS;                                                                    \
        for (int64_t i = 0; last_ < 0 && i < (n); i++)                                                       \
            (y)[i] = rounded_byte(scalar);                                                                   \
        for (int64_t i = 0; last_ >= 0 && i < (n); i += 4 * FLOATS) {                                        \
            i = i < last_ ? i : last_;                                                                       \
            floats v_[4];                                                                                    \
            for (int j_ = 0; j_ < 4; j_++) {                                                                 \
                int64_t at = i + j_ * FLOATS;                                                                \
                v_[j_] = (vector);                                                                           \
            }                                                                                                \
            store_rounded((y) + i, v_);                                                                      \
        }                                                                                                    \
    } while (0)
#else
#define ROUNDED_LOOP(n, y, vector, scalar)                                                                   \
    for (int64_t i = 0; i < (n); i++)                                                                        \
    (y)[i] = rounded_byte(scalar)
#endif

#include "kernels/simd/image_elements.h"
#include "kernels/simd/image_filters.h"

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
