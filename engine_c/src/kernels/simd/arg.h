/* One kernel that finds the place of an extreme element, from vector wrappers, to be defined as KERNEL.
 * Places are counted in floats, which are exact for as many as the contract allows. */
#include "kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))

/* The best element of every lane so far, and its place. */
typedef struct winners {
    VEC most, at;
} winners;

INLINE V_MASK beats(VEC x, VEC most, const bool largest, const bool last) {
    V_MASK better = largest ? V_IS_LESS(most, x) : V_IS_LESS(x, most);
    if (last)
        better = V_EITHER(better, V_IS_EQUAL(x, most));
    /* The first NaN beats all but NaN, the last one all. */
    return V_EITHER(better, V_IS_NAN(last ? x : V_SELECT(V_IS_NAN(most), V_ZERO(), x)));
}

INLINE void contend(winners *w, VEC x, VEC at, const bool largest, const bool last) {
    V_MASK better = beats(x, w->most, largest, last);
    w->most = V_SELECT(better, x, w->most);
    w->at = V_SELECT(better, at, w->at);
}

/* Elements that lie together: a lane sees every LANES-th, and the lanes' winners contend in the end. */
INLINE int64_t place_in_run(int64_t k, const float *x, const bool largest, const bool last) {
    float most[LANES], at[LANES], lanes[LANES];
    int64_t whole = k - k % LANES, best = -1;
    float value = 0;
    if (whole > 0) {
        for (int i = 0; i < LANES; i++)
            lanes[i] = (float)i;
        winners w = {V_LOAD(x), V_LOAD(lanes)};
        VEC place = w.at, step = V_SPLAT((float)LANES);
        for (int64_t i = LANES; i < whole; i += LANES) {
            place = V_ADD(place, step);
            contend(&w, V_LOAD(x + i), place, largest, last);
        }
        V_STORE(most, w.most);
        V_STORE(at, w.at);
    }
    for (int64_t i = whole > 0 ? 0 : LANES; i < LANES + k - whole; i++) {
        float other = i < LANES ? most[i] : x[whole + i - LANES];
        int64_t place = i < LANES ? (int64_t)at[i] : whole + i - LANES;
        bool equal = other == value || (other != other && value != value);
        bool better = (largest ? other > value : other < value) || (other != other && value == value);
        if (best < 0 || better || (equal && (place > best) == last))
            best = place, value = other;
    }
    return best;
}

INLINE void place_in_columns(const we_arg *how, const float *x, int64_t *y, const bool largest,
                             const bool last, const int32_t count) {
    float at[LANES];
    winners w = {V_LOAD_UP_TO(x, count), V_ZERO()};
    for (int64_t i = 1; i < how->k; i++)
        contend(&w, V_LOAD_UP_TO(x + i * how->step, count), V_SPLAT((float)i), largest, last);
    V_STORE(at, w.at);
    for (int32_t j = 0; j < count; j++)
        y[j] = (int64_t)at[j];
}

INLINE void place(const we_arg *how, const float *x, int64_t *y, const bool largest, const bool last) {
    int64_t j = 0;
    if (how->count == 1 && how->step == 1) {
        *y = place_in_run(how->k, x, largest, last);
        return;
    }
    for (; j + LANES <= how->count; j += LANES)
        place_in_columns(how, x + j, y + j, largest, last, LANES);
    if (j < how->count)
        place_in_columns(how, x + j, y + j, largest, last, (int32_t)(how->count - j));
}

void KERNEL(const we_arg *how, const float *x, int64_t *y) {
    if (how->largest && how->last)
        place(how, x, y, true, true);
    else if (how->largest)
        place(how, x, y, true, false);
    else if (how->last)
        place(how, x, y, false, true);
    else
        place(how, x, y, false, false);
}
