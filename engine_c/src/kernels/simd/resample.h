/* The kernels that resize rows of one instruction set, from its wrappers; NAME(name) is a kernel's name. */
#include "kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))

/* `count` outputs from the i-th on. All they see lies within `window`, whose first element is x[low]. */
INLINE VEC from_window(const we_resample *how, VEC window, int64_t i, int32_t low, const int32_t count,
                       const bool picks) {
    VEC sum = V_ZERO();
    if (picks)
        return v_pick_near(window, how->at + i, low, count);
    for (int64_t j = 0; j < how->taps; j++) {
        VEC seen = v_pick_near(window, how->at + j * how->count + i, low, count);
        sum = V_FMA(V_LOAD_UP_TO(how->weights + j * how->count + i, count), seen, sum);
    }
    return sum;
}

/* The same where it lies anywhere. */
INLINE VEC from_row(const we_resample *how, const float *x, int64_t i, const int32_t count,
                    const bool picks) {
    VEC sum = V_ZERO();
    if (picks)
        return v_pick(x, how->at + i, count);
    for (int64_t j = 0; j < how->taps; j++) {
        VEC seen = v_pick(x, how->at + j * how->count + i, count);
        sum = V_FMA(V_LOAD_UP_TO(how->weights + j * how->count + i, count), seen, sum);
    }
    return sum;
}

INLINE VEC outputs(const we_resample *how, const float *x, int64_t i, const int32_t count, const bool picks) {
    int32_t low = how->at[i], high = how->at[(how->taps - 1) * how->count + i + count - 1];
    if (high - low >= LANES)
        return from_row(how, x, i, count, picks);
    if (low + LANES <= how->length)
        return from_window(how, V_LOAD(x + low), i, low, count, picks);
    return from_window(how, V_LOAD_PART(x + low, (int32_t)(how->length - low)), i, low, count, picks);
}

INLINE void resample(const we_resample *how, const float *x, float *y, const bool picks) {
    int64_t i = 0;
    for (; i + LANES <= how->count; i += LANES)
        V_STORE(y + i, outputs(how, x, i, LANES, picks));
    if (i < how->count) {
        int32_t count = (int32_t)(how->count - i);
        V_STORE_PART(y + i, count, outputs(how, x, i, count, picks));
    }
}

void NAME(resample)(const we_resample *how, const float *x, float *y) {
    if (how->weights)
        resample(how, x, y, false);
    else
        resample(how, x, y, true);
}

INLINE VEC mixed(const int64_t taps, const float *const *rows, const float *weights, int64_t step, int64_t i,
                 const int32_t count) {
    VEC sum = V_ZERO();
    for (int64_t j = 0; j < taps; j++)
        sum = V_FMA(V_SPLAT(weights[j * step]), V_LOAD_UP_TO(rows[j] + i, count), sum);
    return sum;
}

INLINE void mix(int64_t n, const int64_t taps, const float *const *rows, const float *weights, int64_t step,
                float *y) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        V_STORE(y + i, mixed(taps, rows, weights, step, i, LANES));
    if (i < n)
        V_STORE_PART(y + i, (int32_t)(n - i), mixed(taps, rows, weights, step, i, (int32_t)(n - i)));
}

void NAME(mix)(int64_t n, int64_t taps, const float *const *rows, const float *weights, int64_t step,
               float *y) {
    if (taps == 2)
        mix(n, 2, rows, weights, step, y);
    else if (taps == 4)
        mix(n, 4, rows, weights, step, y);
    else
        mix(n, taps, rows, weights, step, y);
}
