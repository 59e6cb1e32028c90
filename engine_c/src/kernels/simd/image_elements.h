/* Elements one by one, for image_rows.h. */

void IMAGE(blend_u8)(int64_t n, const uint8_t *a, const uint8_t *b, float wa, float wb, float start,
                     uint8_t *restrict y) {
    ROUNDED_LOOP(n, y,
                 FLOATS_OF_BYTES(a + at) * ALL_FLOATS(wa) +
                     (FLOATS_OF_BYTES(b + at) * ALL_FLOATS(wb) + ALL_FLOATS(start)),
                 (float)a[i] * wa + ((float)b[i] * wb + start));
}

void IMAGE(scale_u8)(int64_t n, const uint8_t *x, float scale, float shift, int32_t magnitude,
                     uint8_t *restrict y) {
    if (magnitude)
        ROUNDED_LOOP(n, y,
                     LARGER_FLOATS(FLOATS_OF_BYTES(x + at) * ALL_FLOATS(scale) + ALL_FLOATS(shift),
                                   -(FLOATS_OF_BYTES(x + at) * ALL_FLOATS(scale) + ALL_FLOATS(shift))),
                     fabsf((float)x[i] * scale + shift));
    else
        ROUNDED_LOOP(n, y, FLOATS_OF_BYTES(x + at) * ALL_FLOATS(scale) + ALL_FLOATS(shift),
                     (float)x[i] * scale + shift);
}

void IMAGE(scale_f32_u8)(int64_t n, const float *x, float scale, float shift, int32_t magnitude,
                         uint8_t *restrict y) {
    if (magnitude)
        ROUNDED_LOOP(n, y,
                     LARGER_FLOATS(LOAD_FLOATS(x + at) * ALL_FLOATS(scale) + ALL_FLOATS(shift),
                                   -(LOAD_FLOATS(x + at) * ALL_FLOATS(scale) + ALL_FLOATS(shift))),
                     fabsf(x[i] * scale + shift));
    else
        ROUNDED_LOOP(n, y, LOAD_FLOATS(x + at) * ALL_FLOATS(scale) + ALL_FLOATS(shift), x[i] * scale + shift);
}

void IMAGE(scale_u8_f32)(int64_t n, const uint8_t *x, float scale, float shift, float *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)x[i] * scale + shift;
}

#define LOOP(formula)                                                                                        \
    for (int64_t i = 0; i < n; i++)                                                                          \
    y[i] = (uint8_t)(formula)

void IMAGE(pointwise_u8)(int32_t fn, int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *restrict y) {
    switch (fn) {
    case WE_POINTWISE_AND:
        LOOP(a[i] & b[i]);
        break;
    case WE_POINTWISE_OR:
        LOOP(a[i] | b[i]);
        break;
    case WE_POINTWISE_XOR:
        LOOP(a[i] ^ b[i]);
        break;
    case WE_POINTWISE_NOT:
        LOOP(~a[i]);
        break;
    case WE_POINTWISE_ABSDIFF:
        LOOP(MORE(a[i], b[i]) - LESS(a[i], b[i]));
        break;
    case WE_POINTWISE_ADD:
        for (int64_t i = 0; i < n; i++) {
            uint8_t sum = (uint8_t)(a[i] + b[i]);
            y[i] = sum < a[i] ? 255 : sum;
        }
        break;
    case WE_POINTWISE_SUBTRACT:
        LOOP(a[i] - LESS(a[i], b[i]));
        break;
    case WE_POINTWISE_LEAST:
        LOOP(LESS(a[i], b[i]));
        break;
    default:
        LOOP(MORE(a[i], b[i]));
    }
}

void IMAGE(threshold_u8)(int32_t type, int64_t n, const uint8_t *x, uint8_t limit, uint8_t most,
                         uint8_t *restrict y) {
    switch (type) {
    case WE_THRESHOLD_BINARY:
        LOOP(x[i] > limit ? most : 0);
        break;
    case WE_THRESHOLD_BINARY_INV:
        LOOP(x[i] > limit ? 0 : most);
        break;
    case WE_THRESHOLD_TRUNCATE:
        LOOP(LESS(x[i], limit));
        break;
    case WE_THRESHOLD_TO_ZERO:
        LOOP(x[i] > limit ? x[i] : 0);
        break;
    default:
        LOOP(x[i] > limit ? 0 : x[i]);
    }
}

void IMAGE(threshold_by_u8)(int64_t n, const uint8_t *x, const uint8_t *limit, int16_t bound, uint8_t above,
                            uint8_t below, uint8_t *restrict y) {
    uint8_t change = above ^ below;
    LOOP(below ^ ((int16_t)(x[i] - limit[i]) > bound ? change : 0));
}

void IMAGE(range_u8)(int64_t n, int32_t channels, const uint8_t *x, const uint8_t *low, const uint8_t *high,
                     uint8_t *restrict y) {
    if (channels == 3) {
        uint8_t a = low[0], b = low[1], c = low[2], as = (uint8_t)(high[0] - a), bs = (uint8_t)(high[1] - b),
                cs = (uint8_t)(high[2] - c);
        LOOP(((uint8_t)(x[3 * i] - a) <= as) & ((uint8_t)(x[3 * i + 1] - b) <= bs) &
                     ((uint8_t)(x[3 * i + 2] - c) <= cs)
                 ? 255
                 : 0);
        return;
    }
    LOOP(255);
    for (int32_t c = 0; c < channels; c++) {
        uint8_t least = low[c], spread = (uint8_t)(high[c] - least);
        LOOP((uint8_t)(x[i * channels + c] - least) <= spread ? y[i] : 0);
    }
}
#undef LOOP

#if defined(__AVX512BW__)
/* Two bytes of the table in a word: 128 words in four registers. */
ALWAYS __m512i looked_up(const __m512i *words, __m512i x) { /* even bytes of x */
    __m512i at = _mm512_srli_epi16(_mm512_and_si512(x, _mm512_set1_epi16(0xFE)), 1);
    __m512i found = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(x, _mm512_set1_epi16(0x80)),
                                            _mm512_permutex2var_epi16(words[0], at, words[1]),
                                            _mm512_permutex2var_epi16(words[2], at, words[3]));
    __m512i odd = _mm512_slli_epi16(_mm512_and_si512(x, _mm512_set1_epi16(1)), 3);
    return _mm512_and_si512(_mm512_srlv_epi16(found, odd), _mm512_set1_epi16(0xFF));
}

void IMAGE(lut_u8)(int64_t n, const uint8_t *x, const uint8_t *table, uint8_t *y) {
    __m512i words[4];
    for (int i = 0; i < 4; i++)
        words[i] = _mm512_loadu_si512(table + 64 * i);
    for (int64_t i = 0; i < n; i += 64) {
        __mmask64 mask = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        __m512i v = _mm512_maskz_loadu_epi8(mask, x + i);
        __m512i even = looked_up(words, v), odd = looked_up(words, _mm512_srli_epi16(v, 8));
        _mm512_mask_storeu_epi8(y + i, mask, _mm512_or_si512(even, _mm512_slli_epi16(odd, 8)));
    }
}
#else
void IMAGE(lut_u8)(int64_t n, const uint8_t *x, const uint8_t *table, uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = table[x[i]];
}
#endif

/* What precedes in the vector is added in steps of 1, 2, 4 (and 8); what precedes the vector is one number.
 */
void IMAGE(integral_u8)(int64_t n, const uint8_t *x, const int32_t *above, int32_t *restrict y) {
    int64_t i = 0;
    int32_t sum = 0;
#if defined(__AVX512F__)
    const __m512i zero = _mm512_setzero_si512(), last = _mm512_set1_epi32(15);
    __m512i before = zero;
    for (; i + 16 <= n; i += 16) {
        __m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(x + i)));
        v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 15));
        v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 14));
        v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 12));
        v = _mm512_add_epi32(v, _mm512_alignr_epi32(v, zero, 8));
        __m512i lifted = _mm512_add_epi32(before, _mm512_loadu_si512(above + i));
        _mm512_storeu_si512(y + i, _mm512_add_epi32(v, lifted));
        before = _mm512_add_epi32(before, _mm512_permutexvar_epi32(last, v));
    }
    sum = _mm_cvtsi128_si32(_mm512_castsi512_si128(before));
#elif defined(__AVX2__)
    const __m256i last = _mm256_set1_epi32(7);
    __m256i before = _mm256_setzero_si256();
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(x + i)));
        v = _mm256_add_epi32(v, _mm256_slli_si256(v, 4));
        v = _mm256_add_epi32(v, _mm256_slli_si256(v, 8));
        __m256i half = _mm256_shuffle_epi32(_mm256_permute2x128_si256(v, v, 0x08), 0xFF);
        v = _mm256_add_epi32(v, half);
        __m256i lifted =
            _mm256_add_epi32(before, _mm256_loadu_si256((const __m256i *)(const void *)(above + i)));
        _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_add_epi32(v, lifted));
        before = _mm256_add_epi32(before, _mm256_permutevar8x32_epi32(v, last));
    }
    sum = _mm_cvtsi128_si32(_mm256_castsi256_si128(before));
#endif
    for (; i < n; i++) {
        sum += x[i];
        y[i] = above[i] + sum;
    }
}

/* ---- Sums of all ---- */

/* Channels return after PERIOD elements: for each of these a sum of its own, which no 256 of its parts
 * overflow. */
#define TOTAL_OF(name, sum_type, formula)                                                                    \
    void IMAGE(name)(int64_t n, int32_t channels, const uint8_t *x, uint64_t *total) {                       \
        enum { PERIOD = 192, MOST = 256 };                                                                   \
        int64_t i = 0;                                                                                       \
        while (PERIOD % channels == 0 && i + PERIOD <= n) {                                                  \
            sum_type sums[PERIOD] = {0};                                                                     \
            for (int turn = 0; turn < MOST && i + PERIOD <= n; turn++, i += PERIOD) {                        \
                for (int j = 0; j < PERIOD; j++) {                                                           \
                    uint8_t v = x[i + j];                                                                    \
                    sums[j] = (sum_type)(sums[j] + (formula));                                               \
                }                                                                                            \
            }                                                                                                \
            for (int j = 0; j < PERIOD; j += channels) {                                                     \
                for (int32_t c = 0; c < channels; c++)                                                       \
                    total[c] += sums[j + c];                                                                 \
            }                                                                                                \
        }                                                                                                    \
        for (; i < n; i++) {                                                                                 \
            uint8_t v = x[i];                                                                                \
            total[i % channels] += (uint64_t)(formula);                                                      \
        }                                                                                                    \
    }
TOTAL_OF(total_u8, uint16_t, v)
TOTAL_OF(total_squares_u8, uint32_t, v *v)
TOTAL_OF(total_set_u8, uint16_t, v != 0)

void IMAGE(range_of_u8)(int64_t n, const uint8_t *x, uint8_t *least, uint8_t *most) {
    uint8_t low = 255, high = 0;
    for (int64_t i = 0; i < n; i++) {
        low = LESS(low, x[i]);
        high = MORE(high, x[i]);
    }
    *least = low;
    *most = high;
}
