/* The float32 reduce kernels of one instruction set, to be included after its wrappers; NAME(name) is a
 * kernel's name. */
#include <math.h>

#include "kernels/kernels.h"

/* Several independent partial sums: fast, and nearer to the true sum than one running total. */
static float sum_run(int64_t n, const float *x) {
    VEC s0 = V_ZERO(), s1 = V_ZERO(), s2 = V_ZERO(), s3 = V_ZERO();
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 = V_ADD(s0, V_LOAD(x + i));
        s1 = V_ADD(s1, V_LOAD(x + i + LANES));
        s2 = V_ADD(s2, V_LOAD(x + i + 2 * LANES));
        s3 = V_ADD(s3, V_LOAD(x + i + 3 * LANES));
    }
    for (; i + LANES <= n; i += LANES)
        s0 = V_ADD(s0, V_LOAD(x + i));
    if (i < n)
        s1 = V_ADD(s1, V_LOAD_PART(x + i, (int32_t)(n - i)));
    return v_sum(V_ADD(V_ADD(s0, s1), V_ADD(s2, s3)));
}

enum {
    STRIP = 2048,
};

/* y = x of `rows` rows, added to y where there are earlier ones. */
static inline __attribute__((always_inline)) void add_few(const int32_t rows, int64_t inner, int64_t n,
                                                          bool first, const float *x, float *y) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        VEC s = first ? V_ZERO() : V_LOAD(y + j);
        for (int32_t i = 0; i < rows; i++)
            s = V_ADD(s, V_LOAD(x + i * inner + j));
        V_STORE(y + j, s);
    }
    if (j < n) {
        int32_t count = (int32_t)(n - j);
        VEC s = first ? V_ZERO() : V_LOAD_PART(y + j, count);
        for (int32_t i = 0; i < rows; i++)
            s = V_ADD(s, V_LOAD_PART(x + i * inner + j, count));
        V_STORE_PART(y + j, count, s);
    }
}

/* Row by row, in the order of memory. */
static void add_rows(int64_t k, int64_t inner, int64_t n, const float *x, float *y) {
    int64_t i = 0;
    for (; i + 4 <= k; i += 4)
        add_few(4, inner, n, i == 0, x + i * inner, y);
    for (; i < k; i++)
        add_few(1, inner, n, i == 0, x + i * inner, y);
}

void NAME(sum)(int64_t k, int64_t inner, const void *in, void *out) {
    const float *xs = in;
    float *ys = out;
    if (inner == 1) {
        ys[0] = sum_run(k, xs);
        return;
    }
    for (int64_t j = 0; j < inner; j += STRIP) /* of every row a strip, whose sums stay near */
        add_rows(k, inner, inner - j < STRIP ? inner - j : STRIP, xs + j, ys + j);
}

/* The most extreme element, NaN where there is one: `beats` compares two floats, `plain` picks of two vectors
 * without a NaN, `kept` keeps those too, `across` picks of the lanes of one. */
#define EXTREME(name, beats, plain, kept, across)                                                            \
    static float name##_run(int64_t n, const float *x) {                                                     \
        int64_t i = 1;                                                                                       \
        float most = x[0];                                                                                   \
        if (n >= LANES) {                                                                                    \
            VEC s = V_LOAD(x), t = s;                                                                        \
            V_MASK nan = V_IS_NAN(s);                                                                        \
            for (i = LANES; i + 2 * LANES <= n; i += 2 * LANES) {                                            \
                VEC a = V_LOAD(x + i), b = V_LOAD(x + i + LANES);                                            \
                s = plain(s, a);                                                                             \
                t = plain(t, b);                                                                             \
                nan = V_EITHER(nan, V_IS_UNORDERED(a, b));                                                   \
            }                                                                                                \
            for (; i + LANES <= n; i += LANES) {                                                             \
                VEC a = V_LOAD(x + i);                                                                       \
                s = plain(s, a);                                                                             \
                nan = V_EITHER(nan, V_IS_NAN(a));                                                            \
            }                                                                                                \
            most = V_ANY(nan) ? NAN : across(plain(s, t));                                                   \
        }                                                                                                    \
        for (; i < n; i++)                                                                                   \
            most = x[i] beats most || x[i] != x[i] ? x[i] : most;                                            \
        return most;                                                                                         \
    }                                                                                                        \
                                                                                                             \
    void NAME(name)(int64_t k, int64_t inner, const void *in, void *out) {                                   \
        const float *xs = in;                                                                                \
        float *ys = out;                                                                                     \
        if (inner == 1) {                                                                                    \
            ys[0] = name##_run(k, xs);                                                                       \
            return;                                                                                          \
        }                                                                                                    \
        int64_t j = 0;                                                                                       \
        for (; j + LANES <= inner; j += LANES) {                                                             \
            VEC s = V_LOAD(xs + j);                                                                          \
            for (int64_t i = 1; i < k; i++)                                                                  \
                s = kept(s, V_LOAD(xs + i * inner + j));                                                     \
            V_STORE(ys + j, s);                                                                              \
        }                                                                                                    \
        if (j < inner) {                                                                                     \
            int32_t count = (int32_t)(inner - j);                                                            \
            VEC s = V_LOAD_PART(xs + j, count);                                                              \
            for (int64_t i = 1; i < k; i++)                                                                  \
                s = kept(s, V_LOAD_PART(xs + i * inner + j, count));                                         \
            V_STORE_PART(ys + j, count, s);                                                                  \
        }                                                                                                    \
    }

EXTREME(max, >, V_MAX, V_LARGER, v_largest)
EXTREME(min, <, V_MIN, V_SMALLER, v_smallest)
