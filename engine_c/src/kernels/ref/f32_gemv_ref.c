/* Reference: every sum by itself, in double. */
#include "kernels/kernels.h"

void we_f32_gemv_8__ref(const we_gemv *g) {
    for (int64_t r = 0; r < g->rows; r++) {
        for (int32_t j = 0; j < g->count; j++) {
            double sum = g->start ? g->start[r * g->start_row + j] : 0;
            for (int64_t p = 0; p < g->k; p++)
                sum += (double)g->x[r * g->x_row + p] * g->w[p * 8 + j];
            g->y[r * g->y_row + j] = (float)sum;
        }
    }
}
