#include "kernels/kernels.h"

void we_f32_arg__ref(const we_arg *how, const float *x, int64_t *y) {
    for (int64_t j = 0; j < how->count; j++) {
        int64_t best = 0;
        float most = x[j];
        for (int64_t i = 1; i < how->k; i++) {
            float other = x[i * how->step + j];
            bool better = how->largest ? other > most : other < most;
            bool equal = other == most || (other != other && most != most);
            if (better || (other != other && most == most) || (equal && how->last))
                best = i, most = other;
        }
        y[j] = best;
    }
}
