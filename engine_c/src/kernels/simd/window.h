/* One window kernel from vector wrappers, to be defined as KERNEL: V_LARGER(a, b) is the larger, NaN where
 * either is. */
#include <math.h>

#include "kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE void reduce(const we_stretch *s, const float *x, const int32_t count, float *y) {
    VEC most = V_SPLAT(-INFINITY);
    for (int32_t row = 0; row < s->rows; row++) {
        for (int32_t column = 0; column < s->columns; column++)
            most = V_LARGER(most, V_LOAD_UP_TO(x + row * s->x_row + column * s->x_column, count));
    }
    V_STORE_UP_TO(y, count, most);
}

void KERNEL(const we_stretch *s, const float *x, float *y) {
    for (int64_t i = 0; i < s->count; i++, x += s->x_step, y += s->y_step) {
        int64_t channel = 0;
        for (; channel + LANES <= s->channels; channel += LANES)
            reduce(s, x + channel, LANES, y + channel);
        if (channel < s->channels)
            reduce(s, x + channel, (int32_t)(s->channels - channel), y + channel);
    }
}
