/* Reference: every weight by its formula, every sum by itself, in double. GEMV, EXPAND and CODE_BITS say of
 * what. */
#include "kernels/kernels.h"

enum { COLUMNS = 8 };

static float weight(const we_coded *w, int64_t p, int32_t j) {
    int64_t at = p / w->block * COLUMNS + j;
    float zero = w->zeros ? w->zeros[at] : (float)(1 << (CODE_BITS - 1));
    int code = CODE_BITS == 8 ? w->codes[p * COLUMNS + j]
                              : w->codes[p / 2 * COLUMNS + j] >> (p % 2 ? 4 : 0) & ((1 << CODE_BITS) - 1);
    return ((float)code - zero) * w->scales[at];
}

void GEMV(const we_coded *w, int64_t rows, const float *x, int64_t x_row, float *y, int64_t y_row,
          int32_t count) {
    for (int64_t r = 0; r < rows; r++) {
        for (int32_t j = 0; j < count; j++) {
            double sum = 0;
            for (int64_t p = 0; p < w->k; p++)
                sum += (double)x[r * x_row + p] * weight(w, p, j);
            y[r * y_row + j] = (float)sum;
        }
    }
}

void EXPAND(const we_coded *w, int64_t from, int64_t count, float *to) {
    for (int64_t i = 0; i < count * COLUMNS; i++)
        to[i] = weight(w, from + i / COLUMNS, (int32_t)(i % COLUMNS));
}
