/* Reference: every output by itself. */
#include "kernels/kernels.h"

void we_f32_grouped__ref(const we_grouped *g, const float *x, float *y) {
    const we_stretch *s = &g->stretch;
    for (int64_t i = 0; i < s->count; i++) {
        for (int64_t c = 0; c < s->channels; c++) {
            float sum = g->bias ? g->bias[c] : 0;
            for (int32_t row = 0; row < s->rows; row++) {
                for (int64_t tap = 0; tap < s->columns * g->size; tap++) {
                    int64_t column = tap / g->size, of_group = c / g->size * g->size + tap % g->size;
                    sum += g->weights[row * g->w_row + tap * s->channels + c] *
                           x[i * s->x_step + row * s->x_row + column * s->x_column + of_group];
                }
            }
            sum += g->residual ? g->residual[i * s->y_step + c] : 0;
            sum = sum < g->low ? g->low : sum;
            y[i * s->y_step + c] = sum > g->high ? g->high : sum;
        }
    }
}
