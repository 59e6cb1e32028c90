/* Reference: every output by itself. */
#include <math.h>

#include "kernels/kernels.h"

void we_f32_window_max__ref(const we_stretch *s, const float *x, float *y) {
    for (int64_t i = 0; i < s->count; i++) {
        for (int64_t c = 0; c < s->channels; c++) {
            float most = -INFINITY;
            for (int32_t row = 0; row < s->rows; row++) {
                for (int32_t column = 0; column < s->columns; column++) {
                    float value = x[i * s->x_step + row * s->x_row + column * s->x_column + c];
                    most = value > most || value != value ? value : most;
                }
            }
            y[i * s->y_step + c] = most;
        }
    }
}
