/* Reference: every output by itself. */
#include "kernels/kernels.h"

void we_f32_depthwise__ref(const we_depthwise *d, const float *x, float *y) {
    for (int64_t i = 0; i < d->rows; i++) {
        for (int64_t j = 0; j < d->columns; j++) {
            float sum = d->bias;
            for (int32_t t = 0; t < d->taps; t++)
                sum += d->weights[t] * x[i * d->x_row + j + d->offsets[t]];
            sum += d->residual ? d->residual[i * d->y_row + j] : 0;
            y[i * d->y_row + j] = d->relu && sum < 0 ? 0 : sum;
        }
    }
}
