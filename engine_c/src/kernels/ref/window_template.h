/* Reference: every output by itself. Define KERNEL, ELEMENT, LOAD(x) and STORE(x) before. */
#include <math.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

void KERNEL(const we_stretch *s, const void *from, void *to) {
    const ELEMENT *x = from;
    ELEMENT *y = to;
    for (int64_t i = 0; i < s->count; i++) {
        for (int64_t c = 0; c < s->channels; c++) {
            float most = -INFINITY;
            for (int32_t row = 0; row < s->rows; row++) {
                for (int32_t column = 0; column < s->columns; column++) {
                    float value = LOAD(x[i * s->x_step + row * s->x_row + column * s->x_column + c]);
                    most = value > most || value != value ? value : most;
                }
            }
            y[i * s->y_step + c] = STORE(most);
        }
    }
}
