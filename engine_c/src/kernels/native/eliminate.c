#include <math.h>
#include <string.h>

#include "kernels/native.h"

/* Gaussian elimination with row pivoting; a swapped row changes its sign, so that the determinant stays. */
static void eliminate_one(int64_t n, double *a) {
    for (int64_t column = 0; column < n; column++) {
        int64_t pivot = column;
        for (int64_t row = column + 1; row < n; row++)
            pivot = fabs(a[row * n + column]) > fabs(a[pivot * n + column]) ? row : pivot;
        for (int64_t i = 0; pivot != column && i < n; i++) {
            double swapped = a[column * n + i];
            a[column * n + i] = a[pivot * n + i];
            a[pivot * n + i] = -swapped;
        }
        for (int64_t row = column + 1; row < n && a[column * n + column] != 0; row++) {
            double factor = a[row * n + column] / a[column * n + column];
            for (int64_t i = column; i < n; i++)
                a[row * n + i] -= factor * a[column * n + i];
        }
    }
}

static const char *eliminate(const void *parameters, const void *const *in, void *out, int64_t begin,
                             int64_t end) {
    const we_eliminate *p = parameters;
    int64_t size = p->n * p->n;
    memcpy((double *)out + begin * size, (const double *)in[0] + begin * size,
           (size_t)((end - begin) * size) * sizeof(double));
    for (int64_t item = begin; item < end; item++)
        eliminate_one(p->n, (double *)out + item * size);
    return NULL;
}

const we_native we_native_eliminate = {"eliminate", eliminate};
