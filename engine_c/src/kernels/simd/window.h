/* One window kernel from vector wrappers (see matmul_tile.h), to be defined as KERNEL: the largest of what it
 * sees, NaN where any is. MAXPS alone drops a NaN of its first operand, so taps are looked at in pairs. */
#include <math.h>

#include "kernels/kernels.h"
#include "kernels/simd/image.h"

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

/* `count` <= LANES channels of one output. */
INLINE void reduce(const we_stretch *s, const ELEMENT *x, const int32_t rows, const int32_t columns,
                   const int32_t count, ELEMENT *y) {
    VEC most = V_SPLAT(-INFINITY), odd = most;
    V_MASK nan = V_IS_UNORDERED(most, most);
    UNROLL for (int32_t row = 0; row < rows; row++) {
        UNROLL for (int32_t column = 0; column < columns; column++) {
            VEC seen = V_LOAD_IMAGE(x + row * s->x_row + column * s->x_column, count);
            most = V_MAX(most, seen);
            if ((row * columns + column) % 2 == 0)
                odd = seen;
            else
                nan = V_EITHER(nan, V_IS_UNORDERED(odd, seen));
        }
    }
    if (rows * columns % 2 == 1)
        nan = V_EITHER(nan, V_IS_UNORDERED(odd, odd));
    V_STORE_IMAGE(y, count, V_SELECT(nan, V_SPLAT(NAN), most));
}

INLINE void reduce_stretch(const we_stretch *s, const ELEMENT *x, const int32_t rows, const int32_t columns,
                           ELEMENT *y) {
    for (int64_t i = 0; i < s->count; i++, x += s->x_step, y += s->y_step) {
        int64_t channel = 0;
        for (; channel + LANES <= s->channels; channel += LANES)
            reduce(s, x + channel, rows, columns, LANES, y + channel);
        if (channel < s->channels)
            reduce(s, x + channel, rows, columns, (int32_t)(s->channels - channel), y + channel);
    }
}

/* The usual windows have constant bounds. */
void KERNEL(const we_stretch *s, const void *from, void *to) {
    const ELEMENT *x = from;
    ELEMENT *y = to;
    const we_stretch own = *s; /* a copy that no store to y can change */
    if (own.rows == 3 && own.columns == 3)
        reduce_stretch(&own, x, 3, 3, y);
    else if (own.rows == 2 && own.columns == 2)
        reduce_stretch(&own, x, 2, 2, y);
    else if (own.rows == 5 && own.columns == 5)
        reduce_stretch(&own, x, 5, 5, y);
    else
        reduce_stretch(&own, x, own.rows, own.columns, y);
}
