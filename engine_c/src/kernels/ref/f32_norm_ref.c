/* Reference: the formula in double. */
#include <math.h>

#include "kernels/kernels.h"

we_moments we_f32_norm__ref(const we_norm *how, const float *x, float *y) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; how->centred && i < how->k; i++)
        sum += x[i];
    double mean = sum / (double)how->k;
    for (int64_t i = 0; i < how->k; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    double inverse = 1 / sqrt(squares / (double)how->k + how->epsilon);
    for (int64_t i = 0; i < how->k; i++)
        y[i] = (float)((x[i] - mean) * inverse * (how->scale ? how->scale[i / how->plane] : 1) +
                       (how->bias ? how->bias[i / how->plane] : 0));
    return (we_moments){(float)mean, (float)inverse};
}
