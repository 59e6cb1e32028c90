/* Reference: every output by itself. */
#include "kernels/kernels.h"

void we_f32_depthwise__ref(const we_depthwise *d, const float *x, float *y) {
    const we_stretch *s = &d->stretch;
    for (int64_t i = 0; i < s->count; i++) {
        for (int64_t c = 0; c < s->channels; c++) {
            float sum = d->bias ? d->bias[c] : 0;
            for (int32_t row = 0; row < s->rows; row++) {
                for (int32_t column = 0; column < s->columns; column++)
                    sum += d->weights[row * d->w_row + column * s->channels + c] *
                           x[i * s->x_step + row * s->x_row + column * s->x_column + c];
            }
            sum += d->residual ? d->residual[i * s->y_step + c] : 0;
            sum = sum < d->low ? d->low : sum;
            y[i * s->y_step + c] = sum > d->high ? d->high : sum;
        }
    }
}
