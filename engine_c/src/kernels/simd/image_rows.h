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

/* ---- Places in another image ---- */

ALWAYS void places_of(int64_t n, const double *m, bool perspective, double x0, double y0, float *restrict px,
                      float *restrict py) {
    double xs = m[0], xc = m[1] * y0 + m[2], ys = m[3], yc = m[4] * y0 + m[5];
    double zs = perspective ? m[6] : 0, zc = perspective ? m[7] * y0 + m[8] : 1;
    for (int32_t i = 0; i < (int32_t)n; i++) {
        double x = x0 + i, sx = xs * x + xc, sy = ys * x + yc;
        if (perspective) {
            double z = zs * x + zc, far = z != 0 ? z : INFINITY;
            z = 1 / far;
            sx *= z;
            sy *= z;
        }
        px[i] = (float)sx;
        py[i] = (float)sy;
    }
}

void IMAGE(places)(int64_t n, const double *m, bool perspective, double x0, double y0, float *px, float *py) {
    if (perspective)
        places_of(n, m, true, x0, y0, px, py);
    else
        places_of(n, m, false, x0, y0, px, py);
}

/* ---- Resizing by area and by many taps ---- */

/* Sums are made at all places, though every `size`th is wanted: that makes vectors. */
ALWAYS void area_of(int64_t n, int32_t channels, int32_t size, const uint16_t *x, float scale,
                    uint8_t *restrict y) {
    enum { BLOCK = 768, FOUR = 4 * sizeof(uint16_t) };
    uint16_t sums[BLOCK + 4], wanted[BLOCK + 4];
    int64_t pixels = BLOCK / (size * channels);
    for (int64_t i = 0; i < n; i += pixels) {
        int64_t count = n - i < pixels ? n - i : pixels;
        const uint16_t *from = x + i * size * channels;
        for (int64_t j = 0; j < (count * size - size + 1) * channels; j++) {
            uint16_t sum = from[j];
            for (int32_t t = 1; t < size; t++)
                sum = (uint16_t)(sum + from[j + t * channels]);
            sums[j] = sum;
        }
        for (int64_t j = 0; j < count; j++) /* the next pixel goes over what is too much */
            memcpy(wanted + j * channels, sums + j * size * channels, FOUR);
        for (int64_t j = 0; j < count * channels; j++)
            y[i * channels + j] = rounded_byte((float)(int32_t)wanted[j] * scale);
    }
}

void IMAGE(area_u16_u8)(int64_t n, int32_t channels, int32_t size, const uint16_t *x, float scale,
                        uint8_t *y) {
#define AREA_OF(c, s)                                                                                        \
    if (channels == (c) && size == (s)) {                                                                    \
        area_of(n, c, s, x, scale, y);                                                                       \
        return;                                                                                              \
    }
    AREA_OF(1, 2);
    AREA_OF(1, 3);
    AREA_OF(1, 4);
    AREA_OF(3, 2);
    AREA_OF(3, 3);
    AREA_OF(3, 4);
    AREA_OF(4, 2);
    AREA_OF(4, 3);
    AREA_OF(4, 4);
#undef AREA_OF
    for (int64_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < channels; c++) {
            uint16_t sum = 0;
            for (int32_t t = 0; t < size; t++)
                sum = (uint16_t)(sum + x[(i * size + t) * channels + c]);
            y[i * channels + c] = rounded_byte((float)(int32_t)sum * scale);
        }
    }
}

ALWAYS void sum_taps(int64_t n, int32_t count, const int32_t *const *x, const int16_t *k,
                     uint8_t *restrict y) {
    const int32_t *rows[8];
    int32_t weights[8];
    for (int32_t t = 0; t < count; t++) {
        rows[t] = x[t];
        weights[t] = k[t];
    }
    for (int64_t i = 0; i < n; i++) {
        int32_t sums[2] = {0, 0}; /* all in one may leave 32 bits */
        for (int32_t t = 0; t < count; t++)
            sums[t >= count / 2] += rows[t][i] * weights[t];
        int32_t sum = ((sums[0] >> 1) + (sums[1] >> 1) + (1 << 20)) >> 21;
        y[i] = (uint8_t)LESS(MORE(sum, 0), 255);
    }
}

void IMAGE(taps_i32_u8)(int64_t n, int32_t count, const int32_t *const *x, const int16_t *k, uint8_t *y) {
    if (count == 4)
        sum_taps(n, 4, x, k, y);
    else
        sum_taps(n, 8, x, k, y);
}
