/* One kernel that normalises a row, from vector wrappers, to be defined as KERNEL: the mean, the squares
 * about it, the result; the row stays in the first-level cache. */
#include <math.h>

#include "kernels/kernels.h"

static float mean_of(int64_t k, const float *x) {
    VEC s0 = V_ZERO(), s1 = V_ZERO(), s2 = V_ZERO(), s3 = V_ZERO();
    int64_t i = 0;
    for (; i + 4 * LANES <= k; i += 4 * LANES) {
        s0 = V_ADD(s0, V_LOAD(x + i));
        s1 = V_ADD(s1, V_LOAD(x + i + LANES));
        s2 = V_ADD(s2, V_LOAD(x + i + 2 * LANES));
        s3 = V_ADD(s3, V_LOAD(x + i + 3 * LANES));
    }
    for (; i + LANES <= k; i += LANES)
        s0 = V_ADD(s0, V_LOAD(x + i));
    if (i < k)
        s1 = V_ADD(s1, V_LOAD_PART(x + i, (int32_t)(k - i)));
    return v_sum(V_ADD(V_ADD(s0, s1), V_ADD(s2, s3))) / (float)k;
}

static inline VEC square(const float *x, VEC mean, VEC sum) {
    VEC d = V_SUB(V_LOAD(x), mean);
    return V_FMA(d, d, sum);
}

static float mean_of_squares(int64_t k, const float *x, float about) {
    VEC s0 = V_ZERO(), s1 = V_ZERO(), s2 = V_ZERO(), s3 = V_ZERO(), mean = V_SPLAT(about);
    int64_t i = 0;
    for (; i + 4 * LANES <= k; i += 4 * LANES) {
        s0 = square(x + i, mean, s0);
        s1 = square(x + i + LANES, mean, s1);
        s2 = square(x + i + 2 * LANES, mean, s2);
        s3 = square(x + i + 3 * LANES, mean, s3);
    }
    for (; i + LANES <= k; i += LANES)
        s0 = square(x + i, mean, s0);
    float rest = 0;
    for (; i < k; i++)
        rest += (x[i] - about) * (x[i] - about);
    return (v_sum(V_ADD(V_ADD(s0, s1), V_ADD(s2, s3))) + rest) / (float)k;
}

static inline __attribute__((always_inline)) void finish(const we_norm *how, const float *x, float *y,
                                                         VEC mean, VEC inverse, int64_t i, int32_t count) {
    VEC v = V_MUL(V_SUB(V_LOAD_UP_TO(x + i, count), mean), inverse);
    if (how->scale)
        v = V_MUL(v, V_LOAD_UP_TO(how->scale + i, count));
    if (how->bias)
        v = V_ADD(v, V_LOAD_UP_TO(how->bias + i, count));
    V_STORE_UP_TO(y + i, count, v);
}

/* One plane after the other. */
static void finish_planes(const we_norm *how, const float *x, float *y, VEC mean, VEC inverse) {
    for (int64_t at = 0, channel = 0; at < how->k; at += how->plane, channel++) {
        VEC scale = V_SPLAT(how->scale ? how->scale[channel] : 1),
            bias = V_SPLAT(how->bias ? how->bias[channel] : 0);
        int64_t i = at, end = at + how->plane;
        for (; i + LANES <= end; i += LANES)
            V_STORE(y + i, V_ADD(V_MUL(V_MUL(V_SUB(V_LOAD(x + i), mean), inverse), scale), bias));
        if (i < end) {
            int32_t count = (int32_t)(end - i);
            VEC v = V_MUL(V_SUB(V_LOAD_PART(x + i, count), mean), inverse);
            V_STORE_PART(y + i, count, V_ADD(V_MUL(v, scale), bias));
        }
    }
}

we_moments KERNEL(const we_norm *how, const float *x, float *y) {
    we_moments m = {.mean = how->centred ? mean_of(how->k, x) : 0};
    m.inverse = 1 / sqrtf(mean_of_squares(how->k, x, m.mean) + how->epsilon);
    VEC mean = V_SPLAT(m.mean), inverse = V_SPLAT(m.inverse);
    int64_t i = 0;
    if (how->plane > 1) {
        finish_planes(how, x, y, mean, inverse);
        return m;
    }
    for (; i + LANES <= how->k; i += LANES)
        finish(how, x, y, mean, inverse, i, LANES);
    if (i < how->k)
        finish(how, x, y, mean, inverse, i, (int32_t)(how->k - i));
    return m;
}
