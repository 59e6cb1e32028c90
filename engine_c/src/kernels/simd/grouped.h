/* One kernel for small groups of channels from vector wrappers, to be defined as KERNEL. A vector of outputs
 * takes from the vector of inputs beside it, for every channel of a group in turn, that channel's element to
 * all lanes of the group: as many multiply-adds as there are products, and no lane idle. Of a group that is
 * wider than a vector all lanes take the same. */
#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_ALL _Pragma("GCC unroll 12")
#define INLINE static inline __attribute__((always_inline))

enum {
    WIDE = WE_GROUP_MOST / LANES, /* vectors of a wide group */
    MOST_WIDE = 12 / WIDE,        /* outputs of wide groups at once: their sums, weights and an element */
    OUTPUTS = LANES == 8 ? 4 : 8, /* at once: their sums and what they see stay in registers */
};

INLINE void store(const we_grouped *g, VEC sum, int64_t at, const int32_t count, float *y) {
    if (g->residual)
        sum = V_ADD(sum, V_LOAD_UP_TO(g->residual + at, count));
    V_STORE_UP_TO(y + at, count, V_CAP(V_RAISE(sum, g->low), g->high));
}

/* Which element each lane takes for channel j of its group, [size][LANES]. */
static void places_of(int32_t size, int32_t *places) {
    for (int32_t i = 0; i < size * LANES; i++)
        places[i] = i % LANES / size * size + i / LANES;
}

/* Where a multiply-add takes a lane, a group that fills vectors is loaded once, all its vectors. */
#if defined(V_SPLAT_LANE)
#define HELD(size) ((size) >= LANES ? (size) / LANES : 1)
#else
#define V_SPLAT_LANE(v, lane) v
#define HELD(size) 0
#endif

/* `many` outputs from the one at x on; size: of a group. */
INLINE void filter(const we_grouped *g, const float *x, float *y, int64_t at, int64_t channel,
                   const int32_t *places, const int32_t size, const int32_t many, const int32_t count) {
    const we_stretch *s = &g->stretch;
    const int32_t held = HELD(size);
    VEC sums[OUTPUTS], seen[OUTPUTS][2];
    UNROLL for (int32_t o = 0; o < many; o++) sums[o] =
        g->bias ? V_LOAD_UP_TO(g->bias + channel, count) : V_ZERO();
    for (int32_t row = 0; row < s->rows; row++) {
        const float *from = x + row * s->x_row, *w = g->weights + row * g->w_row + channel;
        for (int32_t column = 0; column < s->columns; column++, from += s->x_column) {
            const float *group = from - channel % size;
            UNROLL for (int32_t o = 0; o < many; o++) {
                seen[o][0] = V_LOAD_UP_TO((held ? group : from) + o * s->x_step, count);
                UNROLL for (int32_t v = 1; v < held; v++) seen[o][v] =
                    V_LOAD(group + o * s->x_step + v * LANES);
            }
            UNROLL for (int32_t j = 0; j < size; j++, w += s->channels) {
                VEC weight = V_LOAD_UP_TO(w, count);
                UNROLL for (int32_t o = 0; o < many; o++) {
                    VEC taken = held && size >= LANES ? V_SPLAT_LANE(seen[o][j / LANES], j % LANES)
                                : size > LANES        ? V_SPLAT(group[o * s->x_step + j])
                                                      : v_pick_near(seen[o][0], places + j * LANES, 0, LANES);
                    sums[o] = V_FMA(weight, taken, sums[o]);
                }
            }
        }
    }
    UNROLL for (int32_t o = 0; o < many; o++) store(g, sums[o], at + o * s->y_step, count, y);
}

INLINE void filter_stretch(const we_grouped *g, const float *x, float *y, int64_t channel,
                           const int32_t *places, const int32_t size, const int32_t count) {
    const we_stretch *s = &g->stretch;
    int64_t out = 0;
    x += channel;
    for (; out + OUTPUTS <= s->count; out += OUTPUTS)
        filter(g, x + out * s->x_step, y, channel + out * s->y_step, channel, places, size, OUTPUTS, count);
    for (; out + OUTPUTS / 2 <= s->count; out += OUTPUTS / 2)
        filter(g, x + out * s->x_step, y, channel + out * s->y_step, channel, places, size, OUTPUTS / 2,
               count);
    for (; out + 2 <= s->count; out += 2)
        filter(g, x + out * s->x_step, y, channel + out * s->y_step, channel, places, size, 2, count);
    for (; out < s->count; out++)
        filter(g, x + out * s->x_step, y, channel + out * s->y_step, channel, places, size, 1, count);
}

INLINE void filter_all(const we_grouped *g, const float *x, float *y, const int32_t size) {
    int32_t places[8 * LANES];
    int64_t channel = 0, channels = g->stretch.channels;
    places_of(size, places);
    for (; channel + LANES <= channels; channel += LANES)
        filter_stretch(g, x, y, channel, places, size, LANES);
    if (channel < channels)
        filter_stretch(g, x, y, channel, places, size, (int32_t)(channels - channel));
}

/* ---- Groups of WE_GROUP_MOST, which fill vectors of their own ---- */

/* `many` outputs from the one at x on, whose group begins there: an element of each channel in turn goes to
 * all lanes of its vectors, from memory. One output alone has several sums, or each would wait for the one
 * before. */
INLINE void filter_wide(const we_grouped *g, const float *x, float *y, int64_t at, int64_t channel,
                        const int32_t many, const int32_t parts) {
    const we_stretch *s = &g->stretch;
    VEC sums[MOST_WIDE * WIDE];
    UNROLL_ALL for (int32_t o = 0; o < many * parts * WIDE; o++) sums[o] =
        g->bias && o < many * WIDE ? V_LOAD(g->bias + channel + o % WIDE * LANES) : V_ZERO();
    for (int32_t row = 0; row < s->rows; row++) {
        const float *from = x + row * s->x_row, *w = g->weights + row * g->w_row + channel;
        for (int32_t column = 0; column < s->columns; column++, from += s->x_column) {
            for (int32_t j = 0; j < g->size; j += parts, w += parts * s->channels) {
                UNROLL for (int32_t part = 0; part < parts; part++) {
                    VEC weights[WIDE];
                    UNROLL for (int32_t v = 0; v < WIDE; v++) weights[v] =
                        V_LOAD(w + part * s->channels + v * LANES);
                    UNROLL_ALL for (int32_t o = 0; o < many; o++) {
                        VEC seen = V_SPLAT(from[o * s->x_step + j + part]),
                            *sum = sums + (part * many + o) * WIDE;
                        UNROLL for (int32_t v = 0; v < WIDE; v++) sum[v] = V_FMA(weights[v], seen, sum[v]);
                    }
                }
            }
        }
    }
    UNROLL_ALL for (int32_t o = 0; o < many * WIDE; o++) {
        UNROLL for (int32_t part = 1; part < parts; part++) sums[o] =
            V_ADD(sums[o], sums[part * many * WIDE + o]);
        store(g, sums[o], at + o / WIDE * s->y_step + o % WIDE * LANES, LANES, y);
    }
}

INLINE void filter_all_wide(const we_grouped *g, const float *x, float *y) {
    const we_stretch *s = &g->stretch;
    for (int64_t channel = 0; channel < s->channels; channel += WE_GROUP_MOST) {
        const float *from = x + channel;
        int64_t out = 0, at = channel;
        for (; out + MOST_WIDE <= s->count; out += MOST_WIDE, at += MOST_WIDE * s->y_step)
            filter_wide(g, from + out * s->x_step, y, at, channel, MOST_WIDE, 1);
        for (; out + MOST_WIDE / 2 <= s->count; out += MOST_WIDE / 2, at += MOST_WIDE / 2 * s->y_step)
            filter_wide(g, from + out * s->x_step, y, at, channel, MOST_WIDE / 2, 2);
        for (; out < s->count; out++, at += s->y_step)
            filter_wide(g, from + out * s->x_step, y, at, channel, 1, 4);
    }
}

void KERNEL(const we_grouped *given, const float *x, float *y) {
    const we_grouped g = *given; /* a copy that no store to y can change */
    if (g.size == 2)
        filter_all(&g, x, y, 2);
    else if (g.size == 4)
        filter_all(&g, x, y, 4);
    else if (g.size == 8)
        filter_all(&g, x, y, 8);
    else
        filter_all_wide(&g, x, y);
}
