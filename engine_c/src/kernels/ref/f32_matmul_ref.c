/* Reference micro-kernel: the plain loops over a tile. */
#include "kernels/kernels.h"

enum {
    COLUMNS = 4,
};

static float start_of(const we_tile *t, int32_t i, int32_t j) {
    if (t->accumulate)
        return t->c[i * t->ldc + j];
    if (t->column_bias)
        return t->column_bias[j];
    return t->row_bias ? t->row_bias[i] : 0;
}

void we_f32_matmul_4x4__ref(const we_tile *t) {
    for (int32_t i = 0; i < t->m; i++) {
        for (int32_t j = 0; j < t->n; j++) {
            float sum = start_of(t, i, j);
            for (int64_t r = 0; r < t->runs; r++) {
                for (int64_t p = 0; p < t->depth; p++)
                    sum += t->rows[r * t->m + i][p] * t->b[(r * t->depth + p) * COLUMNS + j];
            }
            sum += t->residual ? t->residual[i * t->ldc + j] : 0;
            sum = sum < t->low ? t->low : sum;
            t->c[i * t->ldc + j] = sum > t->high ? t->high : sum;
        }
    }
}
