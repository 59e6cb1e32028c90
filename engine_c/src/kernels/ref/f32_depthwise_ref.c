/* Reference: every output by itself. */
#include "kernels/kernels.h"

void we_f32_depthwise__ref(const we_depthwise *d, const float *x, float *y) {
    for (int64_t i = 0; i < d->taps.rows; i++) {
        for (int64_t j = 0; j < d->taps.columns; j++) {
            float sum = d->bias;
            for (int32_t t = 0; t < d->taps.count; t++)
                sum += d->weights[t] * x[i * d->taps.x_row + j + d->taps.offsets[t]];
            sum += d->residual ? d->residual[i * d->taps.y_row + j] : 0;
            sum = d->relu && sum < 0 ? 0 : sum;
            y[i * d->taps.y_row + j] = d->ceiling > 0 && sum > d->ceiling ? d->ceiling : sum;
        }
    }
}
