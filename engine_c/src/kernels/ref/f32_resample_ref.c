#include "kernels/kernels.h"

void we_f32_resample__ref(const we_resample *how, const float *x, float *y) {
    for (int64_t i = 0; i < how->count; i++) {
        float sum = 0;
        for (int64_t j = 0; j < how->taps && how->weights; j++)
            sum += how->weights[j * how->count + i] * x[how->at[j * how->count + i]];
        y[i] = how->weights ? sum : x[how->at[i]];
    }
}

void we_f32_mix__ref(int64_t n, int64_t taps, const float *const *rows, const float *weights,
                     int64_t weights_step, float *y) {
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int64_t j = 0; j < taps; j++)
            sum += weights[j * weights_step] * rows[j][i];
        y[i] = sum;
    }
}
