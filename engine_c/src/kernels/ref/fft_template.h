/* One pass by the definition. The including file says REAL, KERNEL and PASS. */
#include <math.h>

#include "kernels/kernels.h"

void KERNEL(const PASS *f, int64_t begin, int64_t end) {
    double cosines[WE_FFT_RADIX], sines[WE_FFT_RADIX];
    for (int32_t k = 0; k < f->radix; k++) {
        double angle = 2 * 3.14159265358979323846 * k / f->radix;
        cosines[k] = cos(angle), sines[k] = sin(angle);
    }
    for (int64_t p = begin; p < end; p++) {
        for (int64_t q = f->first; q < f->last; q++) {
            for (int32_t k = 0; k < f->radix; k++) {
                REAL re = 0, im = 0;
                for (int32_t j = 0; j < f->radix; j++) {
                    int64_t at = q + f->s * (p + f->m * j);
                    REAL c = (REAL)cosines[j * k % f->radix], s = (REAL)sines[j * k % f->radix];
                    re += f->re[at] * c + f->im[at] * s;
                    im += f->im[at] * c - f->re[at] * s;
                }
                REAL c = k ? f->cosines[(k - 1) * f->m + p] : 1, s = k ? f->sines[(k - 1) * f->m + p] : 0;
                int64_t to = q + f->s * (f->radix * p + k);
                f->to_re[to] = re * c - im * s;
                f->to_im[to] = re * s + im * c;
            }
        }
    }
}
