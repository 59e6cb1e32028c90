#include "kernels/kernels.h"

static float larger(float a, float b) {
    return b > a || b != b ? b : a;
}

void we_f32_resample__ref(const we_resample *how, const float *x, float *y) {
    for (int64_t i = 0; i < how->count; i++) {
        float sum = how->weights ? 0 : x[how->at[i]];
        for (int64_t j = 0; j < how->taps; j++) {
            float seen = x[how->at[j * how->count + i]];
            sum = how->weights ? sum + how->weights[j * how->count + i] * seen : larger(sum, seen);
        }
        y[i] = sum;
    }
}

void we_f32_mix__ref(int64_t n, int64_t taps, const float *const *rows, const float *weights, int64_t step,
                     float *y) {
    for (int64_t i = 0; i < n; i++) {
        float sum = weights ? 0 : rows[0][i];
        for (int64_t j = 0; j < taps; j++)
            sum = weights ? sum + weights[j * step] * rows[j][i] : larger(sum, rows[j][i]);
        y[i] = sum;
    }
}

void we_f32_pick__ref(const we_picks *how, const float *x, float *y) {
    for (int64_t row = 0; row < how->rows; row++) {
        for (int64_t i = 0; i < how->columns; i++)
            y[row * how->columns + i] = x[how->row_at[row] * how->in[1] + how->column_at[i]];
    }
}
