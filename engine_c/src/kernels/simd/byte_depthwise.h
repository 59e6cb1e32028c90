/* Depthwise filters of bytes as plain loops: STRIP channels at a time. Before including define KERNEL. */
#include <math.h>

#include "kernels/kernels.h"

enum { STRIP = 64 };

static inline float kept(float value, const we_byte_range *range) {
    value = value > range->low ? value : range->low;
    return value < range->high ? value : range->high;
}

/* One output of `count` channels from `channel` on. */
static inline void filter_strip(const we_byte_depthwise *d, const uint8_t *const *rows, int64_t at,
                                int64_t channel, const int64_t count, uint8_t *y) {
    int32_t sums[STRIP];
    float values[STRIP];
    for (int64_t c = 0; c < count; c++)
        sums[c] = d->start[channel + c];
    const int8_t *w = d->weights + channel;
    for (int32_t row = 0; row < d->row_count; row++) {
        const uint8_t *x = rows[row] + at * d->x_step + channel;
        for (int32_t column = 0; column < d->columns; column++, x += d->x_column, w += d->channels) {
            for (int64_t c = 0; c < count; c++)
                sums[c] += (x[c] ^ d->flip) * w[c];
        }
    }
    const float *factor = d->how.factor + channel, *shift = d->how.shift ? d->how.shift + channel : NULL;
    for (int64_t c = 0; c < count; c++)
        values[c] = (float)sums[c] * factor[c];
    for (int64_t c = 0; shift && c < count; c++)
        values[c] += shift[c];
    y += at * d->y_step + channel;
    for (int64_t c = 0; c < count; c++)
        y[c] = (uint8_t)((int32_t)rintf(kept(values[c], &d->how.range)) + d->how.range.zero);
}

static inline void filter_plainly(const we_byte_depthwise *given, const uint8_t *const *rows, int64_t channel,
                                  uint8_t *y) {
    const we_byte_depthwise own = *given; /* a copy that no store to y can change */
    for (int64_t at = 0; at < own.count; at++) {
        int64_t c = channel;
        for (; c + STRIP <= own.channels; c += STRIP)
            filter_strip(&own, rows, at, c, STRIP, y);
        if (c < own.channels)
            filter_strip(&own, rows, at, c, own.channels - c, y);
    }
}
