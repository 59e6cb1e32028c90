/* Fourier transforms of any length.
 *
 * Lengths without prime factors above 13 go by passes of the kernels, all others by Bluestein's algorithm
 * over such a length. Real ones of even length go by a complex one of half the length. A few lines are
 * transformed together, side by side in planes of real and imaginary parts, [n][width]: the first pass then
 * has whole vectors. */
#ifndef WE_ARRAY_FFT_FFT_H
#define WE_ARRAY_FFT_FFT_H

#include <walle/numeric.h>

#include "base/threads.h"
#include "kernels/kernels.h"

/* cos and sin of 2 pi k / n for 0 <= k < n, exact to the last place or nearly. table: NULL, or what
 * we_fft_roots filled for this n. */
void we_fft_root(int64_t k, int64_t n, const double *table, double *cosine, double *sine);
/* The roots of the first eighth turn, table[2 * (n / 8 + 1)], for an n that divides by 8. */
void we_fft_roots(int64_t n, double *table);

/* A length for Bluestein's algorithm: at least `least`, with factors 2, 3 and 5 alone. */
int64_t we_fft_good_length(int64_t least);

we_status we_fft_f32(const we_fft_call *call, const we_kernels *kernels, we_pool *pool, we_error *err);
we_status we_fft_f64(const we_fft_call *call, const we_kernels *kernels, we_pool *pool, we_error *err);

#endif
