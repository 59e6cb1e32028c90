/* One depthwise kernel from vector wrappers (see matmul_tile.h), to be defined as KERNEL. A vector of
 * channels goes along the whole stretch with its weights in registers; the usual windows have constant
 * bounds. */
#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

INLINE void store(const we_depthwise *d, VEC sum, int64_t at, const int32_t count, float *y) {
    if (d->residual)
        sum = V_ADD(sum, V_LOAD_UP_TO(d->residual + at, count));
    V_STORE_UP_TO(y + at, count, V_CAP(V_RAISE(sum, d->low), d->high));
}

/* `vectors` times LANES channels from `channel` on, or `count` of one vector; rows * columns <= 25. */
INLINE void filter(const we_depthwise *d, const float *x, float *y, int64_t channel, const int32_t rows,
                   const int32_t columns, const int32_t vectors, const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC weights[2][5][5], bias[2], sums[2];
    const float *from[5];
    UNROLL for (int32_t v = 0; v < vectors; v++) bias[v] =
        d->bias ? V_LOAD_UP_TO(d->bias + channel + v * LANES, count) : V_ZERO();
    UNROLL for (int32_t row = 0; row < rows; row++) {
        from[row] = x + row * s->x_row + channel;
        UNROLL for (int32_t column = 0; column < columns; column++) {
            const float *at = d->weights + row * d->w_row + column * s->channels + channel;
            UNROLL for (int32_t v = 0; v < vectors; v++) weights[v][row][column] =
                V_LOAD_UP_TO(at + v * LANES, count);
        }
    }
    for (int64_t out = 0, at = channel; out < s->count; out++, at += s->y_step) {
        UNROLL for (int32_t v = 0; v < vectors; v++) sums[v] = bias[v];
        UNROLL for (int32_t row = 0; row < rows; row++) {
            UNROLL for (int32_t column = 0; column < columns; column++) {
                const float *seen = from[row] + column * s->x_column;
                UNROLL for (int32_t v = 0; v < vectors; v++) sums[v] =
                    V_FMA(weights[v][row][column], V_LOAD_UP_TO(seen + v * LANES, count), sums[v]);
            }
            from[row] += s->x_step;
        }
        UNROLL for (int32_t v = 0; v < vectors; v++) store(d, sums[v], at + v * LANES, count, y);
    }
}

/* Any window: weights are read anew for every output. */
INLINE void filter_any(const we_depthwise *d, const float *x, float *y, int64_t channel,
                       const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC bias = d->bias ? V_LOAD_UP_TO(d->bias + channel, count) : V_ZERO();
    x += channel;
    for (int64_t out = 0, at = channel; out < s->count; out++, at += s->y_step, x += s->x_step) {
        VEC sum = bias;
        for (int32_t row = 0; row < s->rows; row++) {
            const float *from = x + row * s->x_row, *weights = d->weights + row * d->w_row + channel;
            for (int32_t column = 0; column < s->columns;
                 column++, from += s->x_column, weights += s->channels)
                sum = V_FMA(V_LOAD_UP_TO(weights, count), V_LOAD_UP_TO(from, count), sum);
        }
        store(d, sum, at, count, y);
    }
}

/* Channels in steps of a number of vectors, then what is left. */
INLINE void filter_window(const we_depthwise *d, const float *x, float *y, const int32_t rows,
                          const int32_t columns, const int32_t vectors) {
    int64_t channel = 0, channels = d->stretch.channels;
    for (; channel + vectors * LANES <= channels; channel += vectors * LANES)
        filter(d, x, y, channel, rows, columns, vectors, LANES);
    for (; channel + LANES <= channels; channel += LANES)
        filter(d, x, y, channel, rows, columns, 1, LANES);
    if (channel < channels)
        filter(d, x, y, channel, rows, columns, 1, (int32_t)(channels - channel));
}

/* What windows of 3 x 3 and 5 x 5 see inside the image and at its edges. */
#define ROWS_COLUMNS(rows, columns) ((rows) * 8 + (columns))
#define WINDOW(rows, columns)                                                                                \
    case ROWS_COLUMNS(rows, columns):                                                                        \
        filter_window(&own, x, y, rows, columns, 1);                                                         \
        return;

void KERNEL(const we_depthwise *d, const float *x, float *y) {
    const we_depthwise own = *d; /* a copy that no store to y can change */
    int64_t channel = 0, channels = own.stretch.channels;
    /* Positions a multiple of 512 bytes apart fall into few sets of the first-level cache: then two vectors
     * of each are taken while they are there (512 channels: 19 to 15 cycles a vector on Zen 5), if the
     * register file holds their weights. */
    if (LANES == 16 && channels % 128 == 0 && own.stretch.rows == 3 && own.stretch.columns == 3) {
        filter_window(&own, x, y, 3, 3, 2);
        return;
    }
    switch (own.stretch.columns < 8 ? ROWS_COLUMNS(own.stretch.rows, own.stretch.columns) : 0) {
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
        break;
    }
    for (; channel + LANES <= channels; channel += LANES)
        filter_any(&own, x, y, channel, LANES);
    if (channel < channels)
        filter_any(&own, x, y, channel, (int32_t)(channels - channel));
}
