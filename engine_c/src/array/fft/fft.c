#include "array/fft/fft.h"

#include <math.h>

#include "array/loops.h"
#include "base/error.h"

enum {
    WORTH_THREADS = 1 << 14, /* numbers below which no helper is asked */
};

/* Angles up to an eighth turn, where both functions are at their most exact: rest / n eighths. */
static void small_root(int64_t rest, int64_t n, double *cosine, double *sine) {
    double angle = 0.785398163397448309616 * ((double)rest / (double)n);
    *cosine = cos(angle), *sine = sin(angle);
}

void we_fft_roots(int64_t n, double *table) {
    for (int64_t k = 0; k <= n / 8; k++)
        small_root(8 * k, n, &table[2 * k], &table[2 * k + 1]);
}

void we_fft_root(int64_t k, int64_t n, const double *table, double *cosine, double *sine) {
    int64_t eighths = 8 * k / n, rest = 8 * k - eighths * n; /* the angle is (eighths + rest / n) / 8 turns */
    double c, s;
    if (eighths & 1)
        rest = n - rest;
    if (table)
        c = table[rest / 4], s = table[rest / 4 + 1];
    else
        small_root(rest, n, &c, &s);
    bool swapped = ((eighths + 1) / 2) & 1;
    double x = swapped ? s : c, y = swapped ? c : s;
    *cosine = eighths >= 2 && eighths < 6 ? -x : x;
    *sine = eighths >= 4 ? -y : y;
}

int64_t we_fft_good_length(int64_t least) {
    int64_t best = 1;
    while (best < least)
        best *= 2;
    for (int64_t fives = 1; fives < best; fives *= 5) {
        for (int64_t threes = fives; threes < best; threes *= 3) {
            int64_t length = threes;
            while (length < least)
                length *= 2;
            best = length < best ? length : best;
        }
    }
    return best;
}

we_status we_fft(const we_fft_call *call, we_error *err) {
    const we_kernels *kernels;
    we_error_clear(err);
    WE_TRY(we_kernels_get(&kernels, err));
    if (call->n <= 0)
        return we_error_set(err, WE_INVALID_ARGUMENT, "a transform has length %lld; it must be 1 or more",
                            (long long)call->n);
    bool large = call->outer * call->inner * call->n > WORTH_THREADS;
    return (call->field == WE_FIELD_F32 ? we_fft_f32 : we_fft_f64)(call, kernels,
                                                                   large ? we_array_pool() : NULL, err);
}
