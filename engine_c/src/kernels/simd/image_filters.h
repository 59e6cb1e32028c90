/* Sums, orders and edges of the neighbours of a pixel, for image_rows.h. */

/* Sums over taps: with few taps, their number is known to the loop, and the sum stays in a register. */
#define TAPS_OF(name, X, K, ACC, Y, finish)                                                                  \
    ALWAYS void name##_few(int64_t n, int32_t count, const X *const *x, const K *k, Y *restrict y) {         \
        const X *p[9];                                                                                       \
        ACC f[9];                                                                                            \
        for (int32_t t = 0; t < count; t++) {                                                                \
            p[t] = x[t];                                                                                     \
            f[t] = k[t];                                                                                     \
        }                                                                                                    \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                               \
            ACC sum = (ACC)(f[0] * p[0][i]);                                                                 \
            for (int32_t t = 1; t < count; t++)                                                              \
                sum = (ACC)(sum + f[t] * p[t][i]);                                                           \
            y[i] = finish(sum);                                                                              \
        }                                                                                                    \
    }                                                                                                        \
    void IMAGE(name)(int64_t n, int32_t count, const X *const *x, const K *k, Y *restrict y) {               \
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

/* The same where all fits 16 bits. */
ALWAYS void small_few(int64_t n, int32_t count, const uint16_t *const *x, const uint16_t *k, int32_t shift,
                      uint8_t *restrict y) {
    const uint16_t *p[5];
    uint16_t f[5], half = (uint16_t)((1 << shift) >> 1);
    for (int32_t t = 0; t < count; t++) {
        p[t] = x[t];
        f[t] = k[t];
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        uint16_t sum = (uint16_t)(half + f[0] * p[0][i]);
        for (int32_t t = 1; t < count; t++)
            sum = (uint16_t)(sum + f[t] * p[t][i]);
        y[i] = (uint8_t)(sum >> shift);
    }
}

void IMAGE(taps_small_u8)(int64_t n, int32_t count, const uint16_t *const *x, const uint16_t *k,
                          int32_t shift, uint8_t *restrict y) {
    if (count == 1)
        small_few(n, 1, x, k, shift, y);
    else if (count == 2)
        small_few(n, 2, x, k, shift, y);
    else if (count == 3)
        small_few(n, 3, x, k, shift, y);
    else if (count == 4)
        small_few(n, 4, x, k, shift, y);
    else
        small_few(n, 5, x, k, shift, y);
}

/* The terms are added one after the other, as in taps_f32. */
void IMAGE(taps_f32_u8)(int64_t n, int32_t count, const float *const *x, const float *k, float plus,
                        uint8_t *restrict y) {
#if defined(__AVX2__)
    int64_t last = n - 4 * FLOATS;
    for (int64_t i = 0; last >= 0 && i < n; i += 4 * FLOATS) {
        i = i < last ? i : last; /* may overlap those before */
        floats sums[4];
        for (int j = 0; j < 4; j++)
            sums[j] = ALL_FLOATS(k[0]) * LOAD_FLOATS(x[0] + i + j * FLOATS);
        for (int32_t t = 1; t < count; t++) {
            const float *p = x[t] + i;
            floats by = ALL_FLOATS(k[t]);
            for (int j = 0; j < 4; j++)
                sums[j] = sums[j] + by * LOAD_FLOATS(p + j * FLOATS);
        }
        for (int j = 0; j < 4; j++)
            sums[j] = sums[j] + ALL_FLOATS(plus);
        store_rounded(y + i, sums);
    }
    if (last >= 0)
        return;
#endif
    for (int64_t i = 0; i < n; i++) {
        float sum = k[0] * x[0][i];
        for (int32_t t = 1; t < count; t++)
            sum = sum + k[t] * x[t][i];
        y[i] = rounded_byte(sum + plus);
    }
}

void IMAGE(keep_i16_u8)(int64_t n, const int16_t *x, int32_t plus, uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = (uint8_t)LESS(MORE(x[i] + plus, 0), 255);
}

/* ---- Extremes ---- */

#define EXTREME_OF(name, pair_name, better)                                                                  \
    ALWAYS void name##_few(int64_t n, int32_t count, const uint8_t *const *x, uint8_t *restrict y) {         \
        const uint8_t *p[9];                                                                                 \
        for (int32_t t = 0; t < count; t++)                                                                  \
            p[t] = x[t];                                                                                     \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                               \
            uint8_t best = p[0][i];                                                                          \
            for (int32_t t = 1; t < count; t++)                                                              \
                best = better(best, p[t][i]);                                                                \
            y[i] = best;                                                                                     \
        }                                                                                                    \
    }                                                                                                        \
    void IMAGE(name)(int64_t n, int32_t count, const uint8_t *const *x, uint8_t *restrict y) {               \
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
        case 5:                                                                                              \
            name##_few(n, 5, x, y);                                                                          \
            return;                                                                                          \
        case 7:                                                                                              \
            name##_few(n, 7, x, y);                                                                          \
            return;                                                                                          \
        case 9:                                                                                              \
            name##_few(n, 9, x, y);                                                                          \
            return;                                                                                          \
        default:                                                                                             \
            break;                                                                                           \
        }                                                                                                    \
        name##_few(n, 3, x, y);                                                                              \
        int32_t t = 3;                                                                                       \
        for (; t + 8 <= count; t += 8) {                                                                     \
            const uint8_t *a = x[t], *b = x[t + 1], *c = x[t + 2], *d = x[t + 3], *e = x[t + 4],             \
                          *f = x[t + 5], *g = x[t + 6], *h = x[t + 7];                                       \
            for (int64_t i = 0; i < n; i++) {                                                                \
                uint8_t ab = better(a[i], b[i]), cd = better(c[i], d[i]), ef = better(e[i], f[i]),           \
                        gh = better(g[i], h[i]), ad = better(ab, cd), eh = better(ef, gh),                   \
                        all = better(ad, eh);                                                                \
                y[i] = better(y[i], all);                                                                    \
            }                                                                                                \
        }                                                                                                    \
        for (; t + 4 <= count; t += 4) {                                                                     \
            const uint8_t *a = x[t], *b = x[t + 1], *c = x[t + 2], *d = x[t + 3];                            \
            for (int64_t i = 0; i < n; i++) {                                                                \
                uint8_t ab = better(a[i], b[i]), cd = better(c[i], d[i]), all = better(ab, cd);              \
                y[i] = better(y[i], all);                                                                    \
            }                                                                                                \
        }                                                                                                    \
        for (; t < count; t++) {                                                                             \
            const uint8_t *p = x[t];                                                                         \
            for (int64_t i = 0; i < n; i++)                                                                  \
                y[i] = better(y[i], p[i]);                                                                   \
        }                                                                                                    \
    }                                                                                                        \
    ALWAYS void pair_name##_few(int64_t n, int32_t count, const uint8_t *const *x, uint8_t *restrict y,      \
                                uint8_t *restrict z) {                                                       \
        const uint8_t *p[10];                                                                                \
        for (int32_t t = 0; t <= count; t++)                                                                 \
            p[t] = x[t];                                                                                     \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                               \
            uint8_t best = p[1][i];                                                                          \
            for (int32_t t = 2; t < count; t++)                                                              \
                best = better(best, p[t][i]);                                                                \
            y[i] = better(best, p[0][i]);                                                                    \
            z[i] = better(best, p[count][i]);                                                                \
        }                                                                                                    \
    }                                                                                                        \
    void IMAGE(pair_name)(int64_t n, int32_t count, const uint8_t *const *x, uint8_t *restrict y,            \
                          uint8_t *restrict z) {                                                             \
        if (count == 3) {                                                                                    \
            pair_name##_few(n, 3, x, y, z);                                                                  \
        } else if (count == 5) {                                                                             \
            pair_name##_few(n, 5, x, y, z);                                                                  \
        } else if (count == 7) {                                                                             \
            pair_name##_few(n, 7, x, y, z);                                                                  \
        } else if (count == 9) {                                                                             \
            pair_name##_few(n, 9, x, y, z);                                                                  \
        } else if (count < 3) {                                                                              \
            IMAGE(name)(n, count, x, y);                                                                     \
            IMAGE(name)(n, count, x + 1, z);                                                                 \
        } else {                                                                                             \
            IMAGE(name)(n, count - 1, x + 1, z);                                                             \
            const uint8_t *first = x[0], *last = x[count];                                                   \
            for (int64_t i = 0; i < n; i++) {                                                                \
                uint8_t best = z[i];                                                                         \
                y[i] = better(best, first[i]);                                                               \
                z[i] = better(best, last[i]);                                                                \
            }                                                                                                \
        }                                                                                                    \
    }
EXTREME_OF(least_u8, least_pair_u8, LESS)
EXTREME_OF(most_u8, most_pair_u8, MORE)

/* ---- Medians ---- */

#define SORT(i, j)                                                                                           \
    do {                                                                                                     \
        uint8_t low_ = LESS(v[i], v[j]), high_ = MORE(v[i], v[j]);                                           \
        v[i] = low_;                                                                                         \
        v[j] = high_;                                                                                        \
    } while (0)

/* Calls part(at, size) for stretches of n elements. All have STRETCH, the last overlaps the one before: what
 * is written twice is the same. Vector code for a known size has no rest of single elements, each of which
 * costs as much as a vector. */
enum { STRETCH = 64 };
#define IN_STRETCHES(n, part)                                                                                \
    do {                                                                                                     \
        int64_t at_ = 0;                                                                                     \
        for (; at_ + STRETCH <= (n); at_ += STRETCH)                                                         \
            part(at_, STRETCH);                                                                              \
        if (at_ < (n) && (n) >= STRETCH)                                                                     \
            part((n) - STRETCH, STRETCH);                                                                    \
        else if (at_ < (n))                                                                                  \
            part(0, (n));                                                                                    \
    } while (0)

/* Source: Paeth, "Median finding on a 3x3 grid" (Graphics Gems, 1990), as an exchange network. */
ALWAYS uint8_t middle9(uint8_t *v) {
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
    return v[4];
}

ALWAYS void middle9_of(int64_t at, int64_t size, const uint8_t *const *p, uint8_t *y) {
#pragma GCC ivdep
    for (int64_t i = at; i < at + size; i++) {
        uint8_t v[9];
        for (int t = 0; t < 9; t++)
            v[t] = p[t][i];
        y[i] = middle9(v);
    }
}

void IMAGE(middle9_u8)(int64_t n, const uint8_t *const *x, uint8_t *y) {
    const uint8_t *p[9];
    memcpy(p, x, sizeof p);
#define PART(at, size) middle9_of(at, size, p, y)
    IN_STRETCHES(n, PART);
#undef PART
}

/* Source: Devillard, "Fast median search" (1998): an exchange network for 25. */
void IMAGE(middle25_u8)(int64_t n, const uint8_t *const *x, uint8_t *restrict y) {
    const uint8_t *p[25];
    memcpy(p, x, sizeof p);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        uint8_t v[25];
#pragma GCC unroll 25
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

/* Half an exchange, where only the one or the other is wanted. */
#define LOWER(i, j) v[i] = LESS(v[i], v[j])
#define UPPER(i, j) v[j] = MORE(v[i], v[j])

/* Elements of rows of medians of 3 x 3 from `at` on, of which the neighbours before and after are so far
 * away. */
ALWAYS void median3_of(int64_t at, int64_t size, int64_t before, int64_t after, const uint8_t *const *x,
                       uint8_t *y) {
    const uint8_t *p[9];
    for (int t = 0; t < 9; t++)
        p[t] = x[t / 3] + at + (t % 3 == 0 ? -before : t % 3 == 2 ? after : 0);
    middle9_of(0, size, p, y);
}

/* Beyond the ends, their pixels repeat. At the ends, a vector is made of which one pixel is right. */
void IMAGE(median3_u8)(int64_t n, int64_t step, const uint8_t *const *x, uint8_t *y) {
    enum { SOME = 16 };
    int64_t last = n - step;
    if (n < SOME + step) {
        if (n >= step)
            median3_of(0, step, 0, last > 0 ? step : 0, x, y);
        for (int64_t i = step; i < last; i += step)
            median3_of(i, step, step, step, x, y + i);
        if (last > 0)
            median3_of(last, step, step, 0, x, y + last);
        return;
    }
    uint8_t ends[2][SOME];
    median3_of(0, SOME, 0, step, x, ends[0]);
    median3_of(n - SOME, SOME, step, 0, x, ends[1]);
    const uint8_t *middles[9];
    for (int t = 0; t < 9; t++)
        middles[t] = x[t / 3] + t % 3 * step;
    IMAGE(middle9_u8)(n - 2 * step, middles, y + step);
    for (int64_t i = 0; i < step; i++) {
        y[i] = ends[0][i];
        y[last + i] = ends[1][SOME - step + i];
    }
}

/* Medians of 5 x 5: columns are ordered once for all the squares that have them, and the middle of a square
 * of ordered columns takes half the exchanges. Blocks, so that the columns stay in the first cache. */
enum { COLUMNS = 1024, MEDIAN_STEP = 4, MARGIN = 64 };

/* The columns of a block and `reach` elements on both sides, of which some may be beyond the row. */
typedef struct column_block {
    int64_t size, from, first, last; /* results; where the columns begin; those that are there */
} column_block;

ALWAYS column_block block_at(int64_t start, int64_t n, int64_t reach) {
    int64_t size = n - start < COLUMNS ? n - start : COLUMNS, from = start - reach, to = start + size + reach;
    return (column_block){size, from, from < 0 ? 0 : from, to > n ? n : to};
}

/* What is beyond the row repeats the pixel at its end. */
ALWAYS void repeat_ends(const column_block *b, int64_t reach, int64_t step, uint8_t *line) {
    int64_t there = b->last - b->from, all = b->size + 2 * reach;
    for (int64_t i = b->first - b->from - 1; i >= 0; i--)
        line[i] = line[i + step];
    for (int64_t i = there; i < all; i++)
        line[i] = line[i - step];
}

ALWAYS void order_columns(int64_t at, int64_t size, const uint8_t *const *p, uint8_t *const *to) {
#pragma GCC ivdep
    for (int64_t i = at; i < at + size; i++) {
        uint8_t v[5];
        for (int t = 0; t < 5; t++)
            v[t] = p[t][i];
        SORT(0, 1);
        SORT(3, 4);
        SORT(2, 4);
        SORT(2, 3);
        SORT(0, 3);
        SORT(0, 2);
        SORT(1, 4);
        SORT(1, 3);
        SORT(1, 2);
        for (int t = 0; t < 5; t++)
            to[t][i] = v[t];
    }
}

/* Two ordered columns, v[0 .. 5) and v[5 .. 10), to one of ten. Source of this and of the next: Batcher,
 * "Sorting networks and their applications" (1968). */
ALWAYS void merge_columns(uint8_t *v, uint8_t *to) {
    SORT(0, 5);
    SORT(4, 9);
    SORT(4, 5);
    SORT(2, 7);
    SORT(2, 4);
    SORT(7, 5);
    SORT(1, 6);
    SORT(3, 8);
    SORT(3, 6);
    SORT(1, 2);
    SORT(3, 4);
    SORT(6, 7);
    SORT(8, 5);
    static const int ORDER[10] = {0, 1, 2, 3, 4, 6, 7, 8, 5, 9};
    for (int t = 0; t < 10; t++)
        to[t] = v[ORDER[t]];
}

/* Of two ordered tens, v[0 .. 10) and v[10 .. 20), the six in the middle: a merge without what these do not
 * need. */
ALWAYS void middle_six(uint8_t *v, uint8_t *to) {
    UPPER(0, 10);
    LOWER(8, 18);
    SORT(8, 10);
    SORT(4, 14);
    UPPER(4, 8);
    LOWER(14, 10);
    UPPER(2, 12);
    LOWER(6, 16);
    SORT(6, 12);
    UPPER(6, 8);
    SORT(12, 14);
    UPPER(1, 11);
    LOWER(9, 19);
    SORT(9, 11);
    SORT(5, 15);
    UPPER(5, 9);
    LOWER(15, 11);
    UPPER(3, 13);
    LOWER(7, 17);
    SORT(7, 13);
    SORT(7, 9);
    LOWER(13, 15);
    SORT(7, 8);
    SORT(9, 12);
    SORT(13, 14);
    static const int SIXTH[6] = {7, 8, 9, 12, 13, 14};
    for (int t = 0; t < 6; t++)
        to[t] = v[SIXTH[t]];
}

/* Element t % 5 of column t / 5 is at[t][i]. */
ALWAYS void middle_of_columns(int64_t start, int64_t size, const uint8_t *const *at, uint8_t *y) {
#pragma GCC ivdep
    for (int64_t i = start; i < start + size; i++) {
        uint8_t v[20], pairs[20], six[6];
#pragma GCC unroll 20
        for (int t = 0; t < 20; t++)
            v[t] = at[t][i];
        merge_columns(v, pairs);
        merge_columns(v + 10, pairs + 10);
        middle_six(pairs, six);
        uint8_t middle =
            six[5]; /* of these and the last column: the least of the larger ones of opposite ends */
        for (int t = 0; t < 5; t++) {
            uint8_t larger = MORE(six[t], at[24 - t][i]);
            middle = LESS(middle, larger);
        }
        y[i] = middle;
    }
}

void IMAGE(median5_u8)(int64_t n, int64_t step, const uint8_t *const *x, uint8_t *y) {
    _Alignas(64) uint8_t column[5][COLUMNS + MARGIN];
    const uint8_t *at[25];
    for (int t = 0; t < 25; t++)
        at[t] = column[t % 5] + t / 5 * step;
    for (int64_t start = 0; start < n; start += COLUMNS) {
        column_block b = block_at(start, n, 2 * step);
        const uint8_t *p[5];
        uint8_t *to[5];
        for (int t = 0; t < 5; t++) {
            p[t] = x[t] + b.first;
            to[t] = column[t] + (b.first - b.from);
        }
#define PART(at, size) order_columns(at, size, p, to)
        IN_STRETCHES(b.last - b.first, PART);
#undef PART
        for (int t = 0; t < 5; t++)
            repeat_ends(&b, 2 * step, step, column[t]);
#define PART(from, size) middle_of_columns(from, size, at, y + start)
        IN_STRETCHES(b.size, PART);
#undef PART
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

/* ---- Boxes ---- */

ALWAYS uint8_t box_mean(uint32_t sum, float scale, uint32_t by, uint32_t plus, int32_t shift) {
    return by ? (uint8_t)(((sum + plus) * by) >> shift) : rounded_byte((float)(int32_t)sum * scale);
}

/* Where the factor has 16 bits, the sum and the high half of their product have. */
ALWAYS uint8_t small_mean(uint16_t sum, uint16_t by, uint16_t plus, int32_t shift) {
    uint16_t high = (uint16_t)(((uint32_t)(uint16_t)(sum + plus) * by) >> 16);
    return (uint8_t)(high >> (shift - 16));
}

ALWAYS void box_few(int64_t n, int32_t taps, int64_t step, const uint16_t *x, uint16_t by, uint16_t plus,
                    int32_t shift, uint8_t *restrict y) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t sum = x[i];
        for (int32_t t = 1; t < taps; t++)
            sum = (uint16_t)(sum + x[i + t * step]);
        y[i] = small_mean(sum, by, plus, shift);
    }
}

/* Sums of 4, 16, 64 ... elements of a block, each made of four of the one before; those that make up the taps
 * are added, four at a time. `finish` ends a block. */
#define BOX_SUMS(name, SUM, finish)                                                                          \
    ALWAYS void name(int64_t n, int32_t taps, int64_t step, const uint16_t *x, float scale, uint16_t by,     \
                     uint16_t plus, int32_t shift, uint8_t *restrict y) {                                    \
        _Alignas(64) SUM sums[BOX_LEVELS][BOX_BLOCK + BOX_REACH], all[BOX_BLOCK];                            \
        static const SUM NOTHING[BOX_BLOCK];                                                                 \
        (void)scale, (void)by, (void)plus, (void)shift;                                                      \
        for (int64_t start = 0; start < n; start += BOX_BLOCK) {                                             \
            int64_t size = n - start < BOX_BLOCK ? n - start : BOX_BLOCK, at = 0;                            \
            const SUM *from = (const SUM *)(const void *)(x + start), *part[3 * BOX_LEVELS + 3];             \
            if (sizeof(SUM) != sizeof *x) {                                                                  \
                for (int64_t i = 0; i < size + (taps - 1) * step; i++)                                       \
                    sums[0][i] = x[start + i];                                                               \
                from = sums[0];                                                                              \
            }                                                                                                \
            int32_t parts = 0, level = 1;                                                                    \
            for (int64_t window = 1; window <= taps; window *= 4) {                                          \
                for (int64_t t = taps / window % 4; t > 0; t--) {                                            \
                    part[parts++] = from + at * step;                                                        \
                    at += window;                                                                            \
                }                                                                                            \
                if (4 * window > taps)                                                                       \
                    break;                                                                                   \
                int64_t room = size + (taps - 4 * window) * step;                                            \
                const SUM *b = from + window * step, *c = b + window * step, *d = c + window * step;         \
                SUM *restrict to = sums[level++];                                                            \
                for (int64_t i = 0; i < room; i++)                                                           \
                    to[i] = (SUM)(from[i] + b[i] + c[i] + d[i]);                                             \
                from = to;                                                                                   \
            }                                                                                                \
            while (parts % 4 != 0)                                                                           \
                part[parts++] = NOTHING;                                                                     \
            for (int32_t t = 0; t < parts; t += 4) {                                                         \
                const SUM *a = part[t], *b = part[t + 1], *c = part[t + 2], *d = part[t + 3];                \
                if (t == 0) {                                                                                \
                    for (int64_t i = 0; i < size; i++)                                                       \
                        all[i] = (SUM)(a[i] + b[i] + c[i] + d[i]);                                           \
                } else {                                                                                     \
                    for (int64_t i = 0; i < size; i++)                                                       \
                        all[i] = (SUM)(all[i] + (a[i] + b[i] + c[i] + d[i]));                                \
                }                                                                                            \
            }                                                                                                \
            uint8_t *to = y + start;                                                                         \
            finish;                                                                                          \
        }                                                                                                    \
    }
enum { BOX_BLOCK = 1024, BOX_REACH = 1024, BOX_LEVELS = 6 };
BOX_SUMS(box_small, uint16_t, {
    for (int64_t i = 0; i < size; i++)
        to[i] = small_mean(all[i], by, plus, shift);
})
BOX_SUMS(box_wide, int32_t,
         ROUNDED_LOOP(size, to, FLOATS_OF_I32(all + at) * ALL_FLOATS(scale), (float)all[i] * scale))

ALWAYS void box_any(int64_t n, int32_t taps, int64_t step, const uint16_t *x, float scale, uint32_t by,
                    uint32_t plus, int32_t shift, uint8_t *restrict y) {
    for (int64_t c = 0; c < step && c < n; c++) {
        uint32_t sum = 0;
        for (int32_t t = 0; t < taps; t++)
            sum += x[c + t * step];
        for (int64_t i = c; i < n; i += step) {
            y[i] = box_mean(sum, scale, by, plus, shift);
            if (i + step < n)
                sum += (uint32_t)x[i + taps * step] - x[i];
        }
    }
}

void IMAGE(box_u16_u8)(int64_t n, int32_t taps, int64_t step, const uint16_t *x, float scale, uint32_t by,
                       uint32_t plus, int32_t shift, uint8_t *y) {
    bool small = by != 0 && by <= UINT16_MAX && shift >= 16;
    uint16_t factor = (uint16_t)by, half = (uint16_t)plus;
    if (!small && by == 0 && taps * step <= BOX_REACH)
        box_wide(n, taps, step, x, scale, 0, 0, 0, y);
    else if (!small || taps * step > BOX_REACH)
        box_any(n, taps, step, x, scale, by, plus, shift, y);
    else if (taps == 3)
        box_few(n, 3, step, x, factor, half, shift, y);
    else if (taps == 5)
        box_few(n, 5, step, x, factor, half, shift, y);
    else if (taps == 7)
        box_few(n, 7, step, x, factor, half, shift, y);
    else if (taps == 9)
        box_few(n, 9, step, x, factor, half, shift, y);
    else
        box_small(n, taps, step, x, scale, factor, half, shift, y);
}

/* ---- Canny ---- */

void IMAGE(edge_sizes)(int64_t n, const int16_t *dx, const int16_t *dy, int32_t squares,
                       int32_t *restrict size) {
    if (squares) {
        for (int64_t i = 0; i < n; i++)
            size[i] = dx[i] * dx[i] + dy[i] * dy[i];
    } else {
        for (int64_t i = 0; i < n; i++)
            size[i] = (dx[i] < 0 ? -dx[i] : dx[i]) + (dy[i] < 0 ? -dy[i] : dy[i]);
    }
}

void IMAGE(edge_marks)(int64_t n, const int16_t *dx, const int16_t *dy, const int32_t *above,
                       const int32_t *size, const int32_t *below, int32_t low, int32_t high,
                       uint8_t *restrict mark) {
    enum { TANGENT = 13573 }; /* of 22.5 degrees in 15 bits; that of 67.5 is 2 more */
    for (int64_t i = 0; i < n; i++) {
        int32_t ax = dx[i] < 0 ? -dx[i] : dx[i], ay = dy[i] < 0 ? -dy[i] : dy[i], m = size[i];
        int32_t least = ax * TANGENT, flat = (ay << 15)<least, steep = ((ay - 2 * ax) << 15)> least;
        int32_t turned = (dx[i] ^ dy[i]) < 0;
        int32_t up = turned ? above[i + 1] : above[i - 1], down = turned ? below[i - 1] : below[i + 1];
        int32_t before = flat ? size[i - 1] : steep ? above[i] : up;
        int32_t after = flat ? size[i + 1] : steep ? below[i] : down;
        /* The later neighbour may be as large, but for those across. */
        int32_t largest = (m > before) & (m > after - (flat | steep)) & (m > low);
        mark[i] = (uint8_t)(largest ? (m > high ? WE_EDGE_SURE : WE_EDGE_MAYBE) : WE_EDGE_NONE);
    }
}
