/* One depthwise kernel from vector wrappers (see matmul_tile.h), to be defined as KERNEL. A vector of
 * channels goes along the whole stretch with its weights in registers; the usual windows have constant
 * bounds. */
#include "kernels/kernels.h"
#include "kernels/simd/image.h"

#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_MORE _Pragma("GCC unroll 25")
#define INLINE static inline __attribute__((always_inline))

/* Sums of an output: a core that looks few instructions ahead would wait for a single one (3 x 3: 10.6 to 8.0
 * cycles on a Neoverse N1, 5 x 5: 27.9 to 20.0, by LLVM's model). */
#define CHAINS(taps) (LANES > 4 ? 1 : (taps) > 12 ? 4 : 3)

/* A group of channels fills `vectors` vectors; only a single one, or a pair of bfloat16, may be partial. */
#if defined(IN_PAIRS)
enum { GROUP = 2 };

INLINE void load_image(const ELEMENT *from, const int32_t vectors, const int32_t count, VEC *to) {
    (void)vectors;
    v_load_pairs(from, count, to, to + 1);
}

INLINE void load_floats(const float *from, const int32_t vectors, const int32_t count, VEC *to) {
    (void)vectors;
    v_load_apart(from, count, to, to + 1);
}

INLINE void store_image(ELEMENT *to, const int32_t vectors, const int32_t count, const VEC *v) {
    (void)vectors;
    v_store_pairs(to, count, v[0], v[1]);
}
#else
enum { GROUP = 1 };

#define PART_OF(vectors, count) ((vectors) == 1 ? (count) : LANES)

INLINE void load_image(const ELEMENT *from, const int32_t vectors, const int32_t count, VEC *to) {
    UNROLL for (int32_t v = 0; v < vectors; v++) to[v] =
        V_LOAD_IMAGE(from + v * LANES, PART_OF(vectors, count));
}

INLINE void load_floats(const float *from, const int32_t vectors, const int32_t count, VEC *to) {
    UNROLL for (int32_t v = 0; v < vectors; v++) to[v] =
        V_LOAD_UP_TO(from + v * LANES, PART_OF(vectors, count));
}

INLINE void store_image(ELEMENT *to, const int32_t vectors, const int32_t count, const VEC *v) {
    UNROLL for (int32_t i = 0; i < vectors; i++) V_STORE_IMAGE(to + i * LANES, PART_OF(vectors, count), v[i]);
}
#endif

INLINE void finish(const we_depthwise *d, const int32_t vectors, const int32_t count, int64_t at, VEC *sums,
                   ELEMENT *y) {
    if (d->residual) {
        VEC added[2];
        load_image((const ELEMENT *)d->residual + at, vectors, count, added);
        UNROLL for (int32_t v = 0; v < vectors; v++) sums[v] = V_ADD(sums[v], added[v]);
    }
    UNROLL for (int32_t v = 0; v < vectors; v++) sums[v] = V_CAP(V_RAISE(sums[v], d->low), d->high);
    store_image(y + at, vectors, count, sums);
}

INLINE void load_bias(const we_depthwise *d, int64_t channel, const int32_t vectors, const int32_t count,
                      VEC *bias) {
    UNROLL for (int32_t v = 0; v < vectors; v++) bias[v] = V_ZERO();
    if (d->bias)
        load_floats(d->bias + channel, vectors, count, bias);
}

/* `count` channels from `channel` on; rows * columns <= 25. */
INLINE void filter(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, int64_t channel, const int32_t rows,
                   const int32_t columns, const int32_t vectors, const int32_t count) {
    const we_stretch *s = &d->stretch;
    const int32_t taps = rows * columns, chains = CHAINS(taps);
    VEC weights[5][5][2], bias[2], sums[4][2], seen[2];
    const ELEMENT *from[5];
    load_bias(d, channel, vectors, count, bias);
    UNROLL for (int32_t row = 0; row < rows; row++) {
        from[row] = x + row * s->x_row + channel;
        UNROLL for (int32_t column = 0; column < columns; column++)
            load_floats(d->weights + row * d->w_row + column * s->channels + channel, vectors, count,
                        weights[row][column]);
    }
    for (int64_t out = 0, at = channel; out < s->count; out++, at += s->y_step) {
        UNROLL for (int32_t v = 0; v < vectors; v++) sums[0][v] = bias[v];
        UNROLL_MORE for (int32_t tap = 0; tap < taps; tap++) {
            const int32_t row = tap / columns, column = tap % columns;
            VEC *sum = sums[tap % chains];
            load_image(from[row] + column * s->x_column, vectors, count, seen);
            UNROLL for (int32_t v = 0; v < vectors; v++) sum[v] =
                tap == 0 || tap >= chains ? V_FMA(weights[row][column][v], seen[v], sum[v])
                                          : V_MUL(weights[row][column][v], seen[v]);
        }
        UNROLL for (int32_t row = 0; row < rows; row++) from[row] += s->x_step;
        UNROLL for (int32_t c = 1; c < chains; c++) {
            UNROLL for (int32_t v = 0; v < vectors; v++) sums[0][v] = V_ADD(sums[0][v], sums[c][v]);
        }
        finish(d, vectors, count, at, sums[0], y);
    }
}

/* `many` outputs next to each other from the one at x, whose windows move by one column of taps: what a
 * column of the image holds is read once for all outputs that see it. columns <= 7. */
INLINE void slide(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, int64_t at, const VEC *bias,
                  int64_t channel, const int32_t columns, const int32_t many, const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC weights[7][2], sums[8][2], seen[2];
    UNROLL for (int32_t o = 0; o < many; o++) {
        UNROLL for (int32_t v = 0; v < GROUP; v++) sums[o][v] = bias[v];
    }
    for (int32_t row = 0; row < s->rows; row++) {
        const ELEMENT *from = x + row * s->x_row;
        const float *w = d->weights + row * d->w_row + channel;
        UNROLL for (int32_t column = 0; column < columns; column++)
            load_floats(w + column * s->channels, GROUP, count, weights[column]);
        UNROLL_MORE for (int32_t place = 0; place < many + columns - 1; place++, from += s->x_column) {
            load_image(from, GROUP, count, seen);
            UNROLL for (int32_t o = 0; o < many; o++) {
                if (place - o < 0 || place - o >= columns)
                    continue;
                UNROLL for (int32_t v = 0; v < GROUP; v++) sums[o][v] =
                    V_FMA(weights[place - o][v], seen[v], sums[o][v]);
            }
        }
    }
    UNROLL for (int32_t o = 0; o < many; o++) finish(d, GROUP, count, at + o * s->y_step, sums[o], y);
}

/* Any window: `many` outputs share what is read of the weights. */
INLINE void filter_some(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, int64_t at, const VEC *bias,
                        int64_t channel, const int32_t many, const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC sums[4][2], weights[2], seen[2];
    UNROLL for (int32_t o = 0; o < many; o++) {
        UNROLL for (int32_t v = 0; v < GROUP; v++) sums[o][v] = bias[v];
    }
    for (int32_t row = 0; row < s->rows; row++) {
        const ELEMENT *from = x + row * s->x_row;
        const float *w = d->weights + row * d->w_row + channel;
        for (int32_t column = 0; column < s->columns; column++, from += s->x_column, w += s->channels) {
            load_floats(w, GROUP, count, weights);
            UNROLL for (int32_t o = 0; o < many; o++) {
                load_image(from + o * s->x_step, GROUP, count, seen);
                UNROLL for (int32_t v = 0; v < GROUP; v++) sums[o][v] =
                    V_FMA(weights[v], seen[v], sums[o][v]);
            }
        }
    }
    UNROLL for (int32_t o = 0; o < many; o++) finish(d, GROUP, count, at + o * s->y_step, sums[o], y);
}

/* One output whose window is any: two sums, as each waits for itself. */
INLINE void filter_one(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, int64_t at, const VEC *bias,
                       int64_t channel, const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC sums[2][2], weights[2], seen[2];
    UNROLL for (int32_t v = 0; v < GROUP; v++) {
        sums[0][v] = bias[v];
        sums[1][v] = V_ZERO();
    }
    for (int32_t row = 0; row < s->rows; row++) {
        const ELEMENT *from = x + row * s->x_row;
        const float *w = d->weights + row * d->w_row + channel;
        int32_t column = 0;
        for (; column + 2 <= s->columns; column += 2, from += 2 * s->x_column, w += 2 * s->channels) {
            UNROLL for (int32_t odd = 0; odd < 2; odd++) {
                load_floats(w + odd * s->channels, GROUP, count, weights);
                load_image(from + odd * s->x_column, GROUP, count, seen);
                UNROLL for (int32_t v = 0; v < GROUP; v++) sums[odd][v] =
                    V_FMA(weights[v], seen[v], sums[odd][v]);
            }
        }
        if (column < s->columns) {
            load_floats(w, GROUP, count, weights);
            load_image(from, GROUP, count, seen);
            UNROLL for (int32_t v = 0; v < GROUP; v++) sums[0][v] = V_FMA(weights[v], seen[v], sums[0][v]);
        }
    }
    UNROLL for (int32_t v = 0; v < GROUP; v++) sums[0][v] = V_ADD(sums[0][v], sums[1][v]);
    finish(d, GROUP, count, at, sums[0], y);
}

/* A group of channels along the stretch, in blocks of outputs. columns: 0 for any. */
INLINE void filter_stretch(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, int64_t channel,
                           const int32_t columns, const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC bias[2];
    int64_t out = 0;
    load_bias(d, channel, GROUP, count, bias);
    x += channel;
    for (; GROUP == 1 && columns && out + 8 <= s->count; out += 8) /* as many as the register file holds */
        slide(d, x + out * s->x_step, y, channel + out * s->y_step, bias, channel, columns, 8, count);
    for (; columns && out + 4 <= s->count; out += 4)
        slide(d, x + out * s->x_step, y, channel + out * s->y_step, bias, channel, columns, 4, count);
    for (; out + 4 <= s->count; out += 4)
        filter_some(d, x + out * s->x_step, y, channel + out * s->y_step, bias, channel, 4, count);
    for (; out < s->count; out++)
        filter_one(d, x + out * s->x_step, y, channel + out * s->y_step, bias, channel, count);
}

INLINE void filter_all(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, const int32_t columns) {
    int64_t channel = 0, channels = d->stretch.channels;
    for (; channel + GROUP * LANES <= channels; channel += GROUP * LANES)
        filter_stretch(d, x, y, channel, columns, GROUP * LANES);
    if (channel < channels)
        filter_stretch(d, x, y, channel, columns, (int32_t)(channels - channel));
}

/* Channels in steps of a number of vectors, then in groups, then what is left. */
INLINE void filter_window(const we_depthwise *d, const ELEMENT *x, ELEMENT *y, const int32_t rows,
                          const int32_t columns, const int32_t vectors) {
    int64_t channel = 0, channels = d->stretch.channels;
    for (; channel + vectors * LANES <= channels; channel += vectors * LANES)
        filter(d, x, y, channel, rows, columns, vectors, vectors * LANES);
    for (; vectors > GROUP && channel + GROUP * LANES <= channels; channel += GROUP * LANES)
        filter(d, x, y, channel, rows, columns, GROUP, GROUP * LANES);
    if (channel < channels)
        filter(d, x, y, channel, rows, columns, GROUP, (int32_t)(channels - channel));
}

/* What windows of 3 x 3 and 5 x 5 see inside the image and at its edges. */
#define ROWS_COLUMNS(rows, columns) ((rows) * 8 + (columns))
#define WINDOW(rows, columns)                                                                                \
    case ROWS_COLUMNS(rows, columns):                                                                        \
        filter_window(&own, x, y, rows, columns, GROUP);                                                     \
        return;

static void filter_sliding(const we_depthwise *d, const ELEMENT *x, ELEMENT *y) {
    switch (d->stretch.columns) {
    case 4:
        filter_all(d, x, y, 4);
        return;
    case 5:
        filter_all(d, x, y, 5);
        return;
    case 6:
        filter_all(d, x, y, 6);
        return;
    default:
        filter_all(d, x, y, 7);
    }
}

void KERNEL(const we_depthwise *d, const void *image, void *result) {
    const we_depthwise own = *d; /* a copy that no store to y can change */
    const ELEMENT *x = image;
    ELEMENT *y = result;
    const we_stretch *s = &own.stretch;
    /* Positions a multiple of 512 bytes apart fall into few sets of the first-level cache: then two vectors
     * of each are taken while they are there (512 channels: 19 to 15 cycles a vector on Zen 5), if the
     * register file holds their weights. */
    if (LANES == 16 && s->channels % 128 == 0 && s->rows == 3 && s->columns == 3) {
        filter_window(&own, x, y, 3, 3, 2);
        return;
    }
    if (s->columns >= 4 && s->columns <= 7 && s->x_step == s->x_column && s->count >= 4) {
        filter_sliding(&own, x, y);
        return;
    }
    switch (s->columns < 8 ? ROWS_COLUMNS(s->rows, s->columns) : 0) {
        WINDOW(2, 2)
        WINDOW(2, 3)
        WINDOW(3, 2)
        WINDOW(3, 3)
        WINDOW(3, 5)
        WINDOW(5, 3)
        WINDOW(4, 5)
        WINDOW(5, 4)
        WINDOW(5, 5)
    default:
        filter_all(&own, x, y, 0);
    }
}
