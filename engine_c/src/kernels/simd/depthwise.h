/* One depthwise kernel from vector wrappers (see matmul_tile.h), to be defined as KERNEL. Four outputs at a
 * time give the FMA units independent sums and read each weight once; the usual windows have constant bounds.
 */
#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

/* `count` <= LANES channels from `channel` on, of `outs` outputs from `out` on. */
INLINE void filter(const we_depthwise *d, const float *x, float *y, int64_t out, const int outs,
                   int64_t channel, const int32_t rows, const int32_t columns, const int32_t count) {
    const we_stretch *s = &d->stretch;
    VEC sums[4], start = d->bias ? V_LOAD_UP_TO(d->bias + channel, count) : V_ZERO();
    const float *from = x + out * s->x_step + channel, *weights = d->weights + channel;
    UNROLL for (int i = 0; i < outs; i++) sums[i] = start;
    UNROLL for (int32_t row = 0; row < rows; row++) {
        UNROLL for (int32_t column = 0; column < columns; column++) {
            VEC weight = V_LOAD_UP_TO(weights + row * d->w_row + column * s->channels, count);
            const float *at = from + row * s->x_row + column * s->x_column;
            UNROLL for (int i = 0; i < outs; i++) sums[i] =
                V_FMA(weight, V_LOAD_UP_TO(at + i * s->x_step, count), sums[i]);
        }
    }
    UNROLL for (int i = 0; i < outs; i++) {
        int64_t to = (out + i) * s->channels + channel;
        if (d->residual)
            sums[i] = V_ADD(sums[i], V_LOAD_UP_TO(d->residual + to, count));
        V_STORE_UP_TO(y + to, count, V_CAP(V_RAISE(sums[i], d->low), d->high));
    }
}

INLINE void filter_channels(const we_depthwise *d, const float *x, float *y, int64_t out, const int outs,
                            const int32_t rows, const int32_t columns) {
    int64_t channel = 0, channels = d->stretch.channels;
    for (; channel + LANES <= channels; channel += LANES)
        filter(d, x, y, out, outs, channel, rows, columns, LANES);
    if (channel < channels)
        filter(d, x, y, out, outs, channel, rows, columns, (int32_t)(channels - channel));
}

INLINE void filter_stretch(const we_depthwise *d, const float *x, float *y, const int32_t rows,
                           const int32_t columns) {
    int64_t out = 0;
    for (; out + 4 <= d->stretch.count; out += 4)
        filter_channels(d, x, y, out, 4, rows, columns);
    for (; out < d->stretch.count; out++)
        filter_channels(d, x, y, out, 1, rows, columns);
}

void KERNEL(const we_depthwise *d, const float *x, float *y) {
    if (d->stretch.rows == 3 && d->stretch.columns == 3)
        filter_stretch(d, x, y, 3, 3);
    else if (d->stretch.rows == 5 && d->stretch.columns == 5)
        filter_stretch(d, x, y, 5, 5);
    else
        filter_stretch(d, x, y, d->stretch.rows, d->stretch.columns);
}
