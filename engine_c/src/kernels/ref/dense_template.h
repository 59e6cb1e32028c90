/* The plain loops of dense linear algebra. The including file says REAL and NAME(function); contracts are in
 * kernels.h. */
#include "kernels/kernels.h"

enum {
    ROWS = 4,
    COLUMNS = 4,
};

REAL NAME(dot)(int64_t n, const REAL *x, const REAL *y) {
    REAL sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

void NAME(add)(int64_t n, REAL a, const REAL *x, REAL *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

void NAME(turn)(int64_t columns, int64_t count, const REAL *cosines, const REAL *sines, REAL *x,
                int64_t step) {
    for (int64_t k = 0; k < count; k++) {
        REAL *upper = x + k * step, *lower = upper + step;
        for (int64_t j = 0; j < columns; j++) {
            REAL u = upper[j], v = lower[j];
            upper[j] = cosines[k] * u + sines[k] * v;
            lower[j] = cosines[k] * v - sines[k] * u;
        }
    }
}

void NAME(tile)(int64_t k, const REAL *a, const REAL *b, REAL sign, REAL *c, int64_t ldc, int32_t m,
                int32_t n) {
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j < n; j++) {
            REAL sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += a[p * ROWS + i] * b[p * COLUMNS + j];
            c[i * ldc + j] += sign * sum;
        }
    }
}
