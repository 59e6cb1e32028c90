/* Reference: the formula in double. */
#include <math.h>

#include "kernels/kernels.h"

void we_f32_softmax__ref(const we_softmax *how, const float *x, float *y) {
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < how->k; i++) {
        float value =
            how->factor * x[i] + (how->added ? how->added[i] : 0); /* as far apart as the type has it */
        y[i] = value;
        most = value > most || value != value ? value : most;
    }
    if (how->masked && most == -INFINITY)
        most = 0;
    for (int64_t i = 0; i < how->k; i++)
        sum += exp(y[i] - most);
    for (int64_t i = 0; i < how->k; i++)
        y[i] = how->masked && sum == 0 ? 0 : (float)(exp(y[i] - most) / sum);
}
