/* The kernels that resize rows of one instruction set, from its wrappers; NAME(name) is a kernel's name. */
#include "kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))

/* x[at[i]] for i < count: from one vector of the row where they lie that close, from two, or one by one. */
INLINE VEC pick(const we_resample *how, const float *x, const int32_t *at, const int32_t count) {
    int32_t low = at[0], span = at[count - 1] - low;
    int64_t left = how->length - low;
    if (span >= 2 * LANES)
        return v_pick(x, at, count);
    VEC v = left < LANES ? V_LOAD_PART(x + low, (int32_t)left) : V_LOAD(x + low);
    if (span < LANES)
        return v_pick_near(v, at, low, count);
    left -= LANES;
    VEC next = left < LANES ? V_LOAD_PART(x + low + LANES, (int32_t)left) : V_LOAD(x + low + LANES);
    return v_pick_twice(v, next, at, low, count);
}

/* What all taps see of a row: within one vector, within two, or each tap by itself. */
typedef enum sight { NEAR, TWICE, EACH } sight;
typedef struct view {
    const float *x;
    int32_t low;
    VEC first, next;
} view;

INLINE VEC seen_by(const we_resample *how, const view *v, const int32_t *at, const int32_t count,
                   const sight s) {
    if (s == NEAR)
        return v_pick_near(v->first, at, v->low, count);
    return s == TWICE ? v_pick_twice(v->first, v->next, at, v->low, count) : pick(how, v->x, at, count);
}

INLINE VEC combine(const we_resample *how, const view *v, int64_t i, const int32_t count, const sight s,
                   const bool largest) {
    const int32_t *at = how->at + i;
    VEC sum = seen_by(how, v, at, count, s);
    if (!largest)
        sum = V_MUL(V_LOAD_UP_TO(how->weights + i, count), sum);
    for (int64_t j = 1; j < how->taps; j++) {
        VEC seen = seen_by(how, v, at + j * how->count, count, s);
        sum = largest ? V_LARGER(sum, seen)
                      : V_FMA(V_LOAD_UP_TO(how->weights + j * how->count + i, count), seen, sum);
    }
    return sum;
}

INLINE VEC outputs(const we_resample *how, const float *x, int64_t i, const int32_t count,
                   const bool largest) {
    view v = {x, how->at[i], V_ZERO(), V_ZERO()};
    int64_t span = how->at[(how->taps - 1) * how->count + i + count - 1] - v.low;
    int64_t left = how->length - v.low;
    if (span >= 2 * LANES)
        return combine(how, &v, i, count, EACH, largest);
    v.first = left < LANES ? V_LOAD_PART(x + v.low, (int32_t)left) : V_LOAD(x + v.low);
    if (span < LANES)
        return combine(how, &v, i, count, NEAR, largest);
    left -= LANES;
    v.next = left < LANES ? V_LOAD_PART(x + v.low + LANES, (int32_t)left) : V_LOAD(x + v.low + LANES);
    return combine(how, &v, i, count, TWICE, largest);
}

INLINE void resample(const we_resample *how, const float *x, float *y, const bool largest) {
    int64_t i = 0;
    for (; i + LANES <= how->count; i += LANES)
        V_STORE(y + i, outputs(how, x, i, LANES, largest));
    if (i < how->count) {
        int32_t count = (int32_t)(how->count - i);
        V_STORE_PART(y + i, count, outputs(how, x, i, count, largest));
    }
}

void NAME(resample)(const we_resample *how, const float *x, float *y) {
    const we_resample own = *how; /* a copy that no store to y can change */
    if (own.weights)
        resample(&own, x, y, false);
    else
        resample(&own, x, y, true);
}

INLINE VEC mixed(const int64_t taps, const float *const *rows, const float *weights, int64_t step, int64_t i,
                 const int32_t count, const bool largest) {
    VEC sum = V_LOAD_UP_TO(rows[0] + i, count);
    if (!largest)
        sum = V_MUL(V_SPLAT(weights[0]), sum);
    for (int64_t j = 1; j < taps; j++) {
        VEC seen = V_LOAD_UP_TO(rows[j] + i, count);
        sum = largest ? V_LARGER(sum, seen) : V_FMA(V_SPLAT(weights[j * step]), seen, sum);
    }
    return sum;
}

INLINE void mix(int64_t n, const int64_t taps, const float *const *rows, const float *weights, int64_t step,
                float *y, const bool largest) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        V_STORE(y + i, mixed(taps, rows, weights, step, i, LANES, largest));
    if (i < n)
        V_STORE_PART(y + i, (int32_t)(n - i), mixed(taps, rows, weights, step, i, (int32_t)(n - i), largest));
}

void NAME(mix)(int64_t n, int64_t taps, const float *const *rows, const float *weights, int64_t step,
               float *y) {
    if (!weights)
        mix(n, taps, rows, weights, step, y, true);
    else if (taps == 2)
        mix(n, 2, rows, weights, step, y, false);
    else if (taps == 4)
        mix(n, 4, rows, weights, step, y, false);
    else
        mix(n, taps, rows, weights, step, y, false);
}

/* A vector of columns of all rows, whose elements lie as `s` says: what is done for every row
 * is a load, a permutation and a store. A row that repeats is not picked again. */
INLINE void pick_column(const we_picks *how, const float *x, const int32_t *at, const int32_t count,
                        const sight s, float *y) {
    int32_t low = at[0];
    int64_t left = how->in[1] - low, last = -1;
    const int32_t near = left < LANES ? (int32_t)left : LANES;
    const int32_t far = left < LANES ? 0 : left < 2 * LANES ? (int32_t)(left - LANES) : LANES;
    VEC picked = V_ZERO();
    for (int64_t row = 0; row < how->rows; row++, y += how->columns) {
        if (how->row_at[row] != last) {
            last = how->row_at[row];
            const float *from = x + last * how->in[1] + low;
            if (s == EACH)
                picked = v_pick(from - low, at, count);
            else if (s == NEAR)
                picked = v_pick_near(V_LOAD_UP_TO(from, near), at, low, count);
            else
                picked = v_pick_twice(V_LOAD(from), V_LOAD_UP_TO(from + LANES, far), at, low, count);
        }
        V_STORE_UP_TO(y, count, picked);
    }
}

INLINE void pick_columns(const we_picks *how, const float *x, int64_t i, const int32_t count, float *y) {
    const int32_t *at = how->column_at + i;
    int32_t span = at[count - 1] - at[0];
    if (span < LANES)
        pick_column(how, x, at, count, NEAR, y + i);
    else if (span < 2 * LANES)
        pick_column(how, x, at, count, TWICE, y + i);
    else
        pick_column(how, x, at, count, EACH, y + i);
}

void NAME(pick)(const we_picks *given, const float *x, float *y) {
    const we_picks how = *given; /* a copy that no store to y can change */
    int64_t i = 0;
    for (; i + LANES <= how.columns; i += LANES)
        pick_columns(&how, x, i, LANES, y);
    if (i < how.columns)
        pick_columns(&how, x, i, (int32_t)(how.columns - i), y);
}
