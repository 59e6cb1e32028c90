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

void NAME(sum)(int64_t k, int64_t inner, const void *in, void *out) {
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
    if (j < inner) {
        int32_t count = (int32_t)(inner - j);
        VEC s = V_ZERO();
        for (int64_t i = 0; i < k; i++)
            s = V_ADD(s, V_LOAD_PART(xs + i * inner + j, count));
        V_STORE_PART(ys + j, count, s);
    }
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
            s = V_LARGER(s, V_LOAD(x + i));
        float lanes[LANES];
        V_STORE(lanes, s);
        for (int j = 0; j < LANES; j++)
            most = max1(most, lanes[j]);
    }
    for (; i < n; i++)
        most = max1(most, x[i]);
    return most;
}

void NAME(max)(int64_t k, int64_t inner, const void *in, void *out) {
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
            s = V_LARGER(s, V_LOAD(xs + i * inner + j));
        V_STORE(ys + j, s);
    }
    if (j < inner) {
        int32_t count = (int32_t)(inner - j);
        VEC s = V_LOAD_PART(xs + j, count);
        for (int64_t i = 1; i < k; i++)
            s = V_LARGER(s, V_LOAD_PART(xs + i * inner + j, count));
        V_STORE_PART(ys + j, count, s);
    }
}
