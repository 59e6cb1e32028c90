/* Reference: every output by itself. Define KERNEL, ELEMENT, LOAD(x) and STORE(x) before. */
#include "base/dtype.h"
#include "kernels/kernels.h"

void KERNEL(const we_depthwise *d, const void *from, void *to) {
    const we_stretch *s = &d->stretch;
    const ELEMENT *x = from, *residual = d->residual;
    ELEMENT *y = to;
    for (int64_t i = 0; i < s->count; i++) {
        for (int64_t c = 0; c < s->channels; c++) {
            float sum = d->bias ? d->bias[c] : 0;
            for (int32_t row = 0; row < s->rows; row++) {
                for (int32_t column = 0; column < s->columns; column++)
                    sum += d->weights[row * d->w_row + column * s->channels + c] *
                           LOAD(x[i * s->x_step + row * s->x_row + column * s->x_column + c]);
            }
            sum += residual ? LOAD(residual[i * s->y_step + c]) : 0;
            sum = sum < d->low ? d->low : sum;
            y[i * s->y_step + c] = STORE(sum > d->high ? d->high : sum);
        }
    }
}
