/* Butterflies on numbers of type V, and a pass of each: included once for every width of vectors. The
 * including file says V, WIDTH (its lanes) and AT(name). re and im hold `radix` numbers and get their
 * transform. */

static inline V AT(get)(const REAL *from) {
    return *(const V *)from;
}

static inline void AT(butterfly_2)(V *re, V *im) {
    V r = re[0] - re[1], i = im[0] - im[1];
    re[0] += re[1], im[0] += im[1];
    re[1] = r, im[1] = i;
}

static inline void AT(butterfly_4)(V *re, V *im) {
    V ar = re[0] + re[2], ai = im[0] + im[2], br = re[0] - re[2], bi = im[0] - im[2];
    V cr = re[1] + re[3], ci = im[1] + im[3], dr = re[1] - re[3], di = im[1] - im[3];
    re[0] = ar + cr, im[0] = ai + ci;
    re[2] = ar - cr, im[2] = ai - ci;
    re[1] = br + di, im[1] = bi - dr; /* b - i d */
    re[3] = br - di, im[3] = bi + dr;
}

static inline void AT(butterfly_8)(V *re, V *im) {
    const REAL half = (REAL)0.70710678118654752440;
    V even_re[4] = {re[0], re[2], re[4], re[6]}, even_im[4] = {im[0], im[2], im[4], im[6]};
    V odd_re[4] = {re[1], re[3], re[5], re[7]}, odd_im[4] = {im[1], im[3], im[5], im[7]};
    AT(butterfly_4)(even_re, even_im);
    AT(butterfly_4)(odd_re, odd_im);
    V r1 = (odd_re[1] + odd_im[1]) * half, i1 = (odd_im[1] - odd_re[1]) * half; /* times (1 - i) / sqrt(2) */
    V r2 = odd_im[2], i2 = -odd_re[2];                                          /* times -i */
    V r3 = (odd_im[3] - odd_re[3]) * half, i3 = -(odd_re[3] + odd_im[3]) * half;
    odd_re[1] = r1, odd_im[1] = i1, odd_re[2] = r2, odd_im[2] = i2, odd_re[3] = r3, odd_im[3] = i3;
    for (int k = 0; k < 4; k++) {
        re[k] = even_re[k] + odd_re[k], im[k] = even_im[k] + odd_im[k];
        re[k + 4] = even_re[k] - odd_re[k], im[k + 4] = even_im[k] - odd_im[k];
    }
}

/* Odd radices by sums and differences of opposite elements. */
static inline __attribute__((always_inline)) void AT(butterfly_odd)(V *re, V *im, int radix,
                                                                    const REAL *cosines, const REAL *sines) {
    const int half = radix / 2;
    V sum_re[6], sum_im[6], diff_re[6], diff_im[6], first_re = re[0], first_im = im[0];
#pragma GCC unroll 6
    for (int j = 1; j <= half; j++) {
        sum_re[j - 1] = re[j] + re[radix - j], sum_im[j - 1] = im[j] + im[radix - j];
        diff_re[j - 1] = re[j] - re[radix - j], diff_im[j - 1] = im[j] - im[radix - j];
        re[0] += sum_re[j - 1], im[0] += sum_im[j - 1];
    }
#pragma GCC unroll 6
    for (int k = 1; k <= half; k++) {
        V even_re = first_re, even_im = first_im, odd_re = first_re - first_re, odd_im = odd_re;
#pragma GCC unroll 6
        for (int j = 1; j <= half; j++) {
            const int turn = j * k % radix;
            even_re += cosines[turn] * sum_re[j - 1], even_im += cosines[turn] * sum_im[j - 1];
            odd_re += sines[turn] * diff_im[j - 1], odd_im -= sines[turn] * diff_re[j - 1];
        }
        re[k] = even_re + odd_re, im[k] = even_im + odd_im;
        re[radix - k] = even_re - odd_re, im[radix - k] = even_im - odd_im;
    }
}

static inline __attribute__((always_inline)) void AT(butterfly)(V *re, V *im, int radix, const REAL *cosines,
                                                                const REAL *sines) {
    if (radix == 2)
        AT(butterfly_2)(re, im);
    else if (radix == 4)
        AT(butterfly_4)(re, im);
    else if (radix == 8)
        AT(butterfly_8)(re, im);
    else
        AT(butterfly_odd)(re, im, radix, cosines, sines);
}

/* WIDTH neighbouring q of one p. */
static inline __attribute__((always_inline)) void AT(along)(const PASS *f, int64_t p, int64_t q, int radix,
                                                            const REAL *cosines, const REAL *sines) {
    V re[WE_FFT_RADIX], im[WE_FFT_RADIX];
#pragma GCC unroll 13
    for (int k = 0; k < radix; k++) {
        re[k] = AT(get)(f->re + q + f->s * (p + f->m * k));
        im[k] = AT(get)(f->im + q + f->s * (p + f->m * k));
    }
    AT(butterfly)(re, im, radix, cosines, sines);
    REAL *to_re = f->to_re + q + f->s * radix * p, *to_im = f->to_im + q + f->s * radix * p;
    *(V *)to_re = re[0], *(V *)to_im = im[0];
#pragma GCC unroll 13
    for (int k = 1; k < radix; k++) {
        REAL c = f->cosines[(k - 1) * f->m + p], s = f->sines[(k - 1) * f->m + p];
        *(V *)(to_re + f->s * k) = re[k] * c - im[k] * s;
        *(V *)(to_im + f->s * k) = re[k] * s + im[k] * c;
    }
}

/* WIDTH neighbouring p where s = 1. */
static inline __attribute__((always_inline)) void AT(across)(const PASS *f, int64_t p, int radix,
                                                             const REAL *cosines, const REAL *sines) {
    V re[WE_FFT_RADIX], im[WE_FFT_RADIX];
#pragma GCC unroll 13
    for (int k = 0; k < radix; k++) {
        re[k] = AT(get)(f->re + p + f->m * k);
        im[k] = AT(get)(f->im + p + f->m * k);
    }
    AT(butterfly)(re, im, radix, cosines, sines);
#pragma GCC unroll 13
    for (int k = 1; k < radix; k++) {
        V c = AT(get)(f->cosines + (k - 1) * f->m + p), s = AT(get)(f->sines + (k - 1) * f->m + p);
        V turned = re[k] * s + im[k] * c;
        re[k] = re[k] * c - im[k] * s, im[k] = turned;
    }
    for (int lane = 0; lane < WIDTH; lane++) {
        for (int k = 0; k < radix; k++) {
            f->to_re[radix * (p + lane) + k] = ((const REAL *)&re[k])[lane];
            f->to_im[radix * (p + lane) + k] = ((const REAL *)&im[k])[lane];
        }
    }
}
#undef V
#undef WIDTH
#undef AT
