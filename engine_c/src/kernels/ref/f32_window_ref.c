/* Reference: every output by itself. */
#include <math.h>

#include "kernels/kernels.h"

void we_f32_window_max__ref(const we_taps *taps, const float *x, float *y) {
    for (int64_t i = 0; i < taps->rows; i++) {
        for (int64_t j = 0; j < taps->columns; j++) {
            float most = -INFINITY;
            for (int32_t t = 0; t < taps->count; t++) {
                float value = x[i * taps->x_row + j + taps->offsets[t]];
                most = value > most || value != value ? value : most;
            }
            y[i * taps->y_row + j] = most;
        }
    }
}
