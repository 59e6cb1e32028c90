/* One depthwise kernel from vector wrappers (see matmul_tile.h), to be defined as KERNEL. Blocks of four rows
 * give the FMA units independent sums and read each weight once. */
#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 4")

static inline __attribute__((always_inline)) void block(const we_depthwise *d, const float *x, int64_t row,
                                                        int64_t column, const int rows, int32_t count,
                                                        float *y) {
    VEC sums[4];
    const float *from = x + row * d->taps.x_row + column;
    UNROLL for (int i = 0; i < rows; i++) sums[i] = V_SPLAT(d->bias);
    for (int32_t t = 0; t < d->taps.count; t++) {
        VEC weight = V_SPLAT(d->weights[t]);
        const float *at = from + d->taps.offsets[t];
        UNROLL for (int i = 0; i < rows; i++) sums[i] =
            V_FMA(weight, V_LOAD(at + i * d->taps.x_row), sums[i]);
    }
    UNROLL for (int i = 0; i < rows; i++) {
        int64_t to = (row + i) * d->taps.y_row + column;
        if (d->residual)
            sums[i] = V_ADD(sums[i],
                            count == LANES ? V_LOAD(d->residual + to) : V_LOAD_PART(d->residual + to, count));
        if (d->relu)
            sums[i] = V_KEEP_POSITIVE(sums[i]);
        if (d->ceiling > 0)
            sums[i] = V_CAP(sums[i], d->ceiling);
        if (count == LANES)
            V_STORE(y + to, sums[i]);
        else
            V_STORE_PART(y + to, count, sums[i]);
    }
}

void KERNEL(const we_depthwise *d, const float *x, float *y) {
    for (int64_t column = 0; column < d->taps.columns; column += LANES) {
        int32_t count = d->taps.columns - column < LANES ? (int32_t)(d->taps.columns - column) : LANES;
        int64_t row = 0;
        for (; row + 4 <= d->taps.rows; row += 4)
            block(d, x, row, column, 4, count, y);
        for (; row < d->taps.rows; row++)
            block(d, x, row, column, 1, count, y);
    }
}
