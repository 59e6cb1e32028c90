/* One window kernel from vector wrappers, to be defined as KERNEL: V_LARGER(a, b) is the larger, NaN where
 * either is. */
#include <math.h>

#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 4")

static inline __attribute__((always_inline)) void block(const we_taps *taps, const float *x, int64_t row,
                                                        int64_t column, const int rows, int32_t count,
                                                        float *y) {
    VEC most[4];
    const float *from = x + row * taps->x_row + column;
    UNROLL for (int i = 0; i < rows; i++) most[i] = V_SPLAT(-INFINITY);
    for (int32_t t = 0; t < taps->count; t++) {
        const float *at = from + taps->offsets[t];
        UNROLL for (int i = 0; i < rows; i++) most[i] = V_LARGER(most[i], V_LOAD(at + i * taps->x_row));
    }
    UNROLL for (int i = 0; i < rows; i++) {
        float *to = y + (row + i) * taps->y_row + column;
        if (count == LANES)
            V_STORE(to, most[i]);
        else
            V_STORE_PART(to, count, most[i]);
    }
}

void KERNEL(const we_taps *taps, const float *x, float *y) {
    for (int64_t column = 0; column < taps->columns; column += LANES) {
        int32_t count = taps->columns - column < LANES ? (int32_t)(taps->columns - column) : LANES;
        int64_t row = 0;
        for (; row + 4 <= taps->rows; row += 4)
            block(taps, x, row, column, 4, count, y);
        for (; row < taps->rows; row++)
            block(taps, x, row, column, 1, count, y);
    }
}
