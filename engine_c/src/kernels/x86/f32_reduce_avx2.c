#include <math.h>

#include "kernels/kernels.h"
#include "kernels/simd/avx2.h"

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
    float lanes[LANES];
    V_STORE(lanes, V_ADD(V_ADD(s0, s1), V_ADD(s2, s3)));
    float total =
        ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    for (; i < n; i++)
        total += x[i];
    return total;
}

void we_f32_reduce_sum__avx2(int64_t k, int64_t inner, const void *in, void *out) {
    const float *xs = in;
    float *ys = out;
    if (inner == 1) {
        ys[0] = sum_run(k, xs);
        return;
    }
    int64_t j = 0;
    for (; j + LANES <= inner; j += LANES) {
        VEC s = V_ZERO();
        for (int64_t i = 0; i < k; i++)
            s = V_ADD(s, V_LOAD(xs + i * inner + j));
        V_STORE(ys + j, s);
    }
    for (; j < inner; j++) {
        float s = 0;
        for (int64_t i = 0; i < k; i++)
            s += xs[i * inner + j];
        ys[j] = s;
    }
}

/* The larger of s and x; NaN of either stays. */
static inline VEC max8(VEC s, VEC x) {
    return _mm256_blendv_ps(_mm256_max_ps(s, x), s, _mm256_cmp_ps(s, s, _CMP_UNORD_Q));
}

static inline float max1(float s, float x) {
    return x > s || x != x ? x : s;
}

static float max_run(int64_t n, const float *x) {
    int64_t i = 0;
    float most = -INFINITY;
    if (n >= LANES) {
        VEC s = V_LOAD(x);
        for (i = LANES; i + LANES <= n; i += LANES)
            s = max8(s, V_LOAD(x + i));
        float lanes[LANES];
        V_STORE(lanes, s);
        for (int j = 0; j < LANES; j++)
            most = max1(most, lanes[j]);
    }
    for (; i < n; i++)
        most = max1(most, x[i]);
    return most;
}

void we_f32_reduce_max__avx2(int64_t k, int64_t inner, const void *in, void *out) {
    const float *xs = in;
    float *ys = out;
    if (inner == 1) {
        ys[0] = max_run(k, xs);
        return;
    }
    int64_t j = 0;
    for (; j + LANES <= inner; j += LANES) {
        VEC s = V_LOAD(xs + j);
        for (int64_t i = 1; i < k; i++)
            s = max8(s, V_LOAD(xs + i * inner + j));
        V_STORE(ys + j, s);
    }
    for (; j < inner; j++) {
        float s = -INFINITY;
        for (int64_t i = 0; i < k; i++)
            s = max1(s, xs[i * inner + j]);
        ys[j] = s;
    }
}
