/* Elementary functions of float32 from vector wrappers, to be included after one of them. Each keeps NaN, the
 * sign of zero, infinities and denormals as the C library does; unary.inc has the largest distance from it.
 * Polynomials without a source were fitted to double precision (least squares reweighted towards the largest
 * error); the error given is theirs before rounding. */
#ifndef WE_KERNELS_SIMD_ELEMENTARY_H
#define WE_KERNELS_SIMD_ELEMENTARY_H

#include <math.h>

/* x = n * ln 2 + r, |r| <= ln(2)/2. ln 2 is split in two so that n * high is exact (Cody and Waite). */
static inline VEC v_reduce_exp(VEC x, VEC *n) {
    *n = V_NEAREST(V_MUL(x, V_SPLAT(1.44269504f)));
    return V_FNMA(*n, V_SPLAT(-2.12194440e-4f), V_FNMA(*n, V_SPLAT(0.693359375f), x));
}

/* exp(r) - 1 for |r| <= ln(2)/2 by its Taylor polynomial of degree 7, whose truncation is below 6e-9. */
static inline VEC v_expm1_reduced(VEC r) {
    VEC p = V_SPLAT(1.0f / 5040);
    p = V_FMA(p, r, V_SPLAT(1.0f / 720));
    p = V_FMA(p, r, V_SPLAT(1.0f / 120));
    p = V_FMA(p, r, V_SPLAT(1.0f / 24));
    p = V_FMA(p, r, V_SPLAT(1.0f / 6));
    p = V_FMA(p, r, V_SPLAT(0.5f));
    return V_FMA(V_MUL(p, r), r, r);
}

/* exp(x) = 2^n * exp(r); past the clamp it is 0 or infinite. */
static inline VEC v_exp(VEC x) {
    VEC n, r = v_reduce_exp(V_MAX(V_SPLAT(-104.0f), V_MIN(V_SPLAT(89.0f), x)), &n);
    return v_scale(V_ADD(v_expm1_reduced(r), V_SPLAT(1.0f)), n);
}

/* exp(x) - 1 for x in [-80, 80]. */
static inline VEC v_expm1(VEC x) {
    VEC n, r = v_reduce_exp(x, &n), power = v_power(n);
    return V_FMA(power, v_expm1_reduced(r), V_SUB(power, V_SPLAT(1.0f)));
}

static inline VEC v_sigmoid(VEC x) {
    return V_DIV(V_SPLAT(1.0f), V_ADD(V_SPLAT(1.0f), v_exp(V_NEGATE(x))));
}

/* tanh |x| = -e / (e + 2), e = exp(-2 |x|) - 1; 1 from 10 on. */
static inline VEC v_tanh(VEC x) {
    VEC e = v_expm1(V_MUL(V_SPLAT(-2.0f), V_MIN(V_SPLAT(10.0f), V_ABS(x))));
    return V_SIGNED(V_DIV(V_ABS(e), V_ADD(e, V_SPLAT(2.0f))), x);
}

/* 2 s (s^2/3 + s^4/5 + ... + s^14/15) = log((1 + s) / (1 - s)) - 2 s, to 2e-10 for |s| <= 1/3. */
static inline VEC v_log_rest(VEC s) {
    VEC z = V_MUL(s, s), p = V_SPLAT(2.0f / 15);
    p = V_FMA(p, z, V_SPLAT(2.0f / 13));
    p = V_FMA(p, z, V_SPLAT(2.0f / 11));
    p = V_FMA(p, z, V_SPLAT(2.0f / 9));
    p = V_FMA(p, z, V_SPLAT(2.0f / 7));
    p = V_FMA(p, z, V_SPLAT(2.0f / 5));
    p = V_FMA(p, z, V_SPLAT(2.0f / 3));
    return V_MUL(V_MUL(p, z), s);
}

/* log(1 + f), s = f / (2 + f): 2 s = f - s f, so that the leading term is exact. */
static inline VEC v_log1p(VEC f) {
    VEC s = V_DIV(f, V_ADD(f, V_SPLAT(2.0f)));
    return V_ADD(f, V_FNMA(s, f, v_log_rest(s)));
}

/* log(2^e (1 + f)) = e ln 2 + log(1 + f), 1 + f in [0.7, 1.42). */
static inline VEC v_log(VEC x) {
    VEC mantissa, e = v_split(x, &mantissa);
    V_MASK high = V_IS_LESS(V_SPLAT(1.41421356f), mantissa);
    mantissa = V_SELECT(high, V_MUL(mantissa, V_SPLAT(0.5f)), mantissa);
    e = V_SELECT(high, V_ADD(e, V_SPLAT(1.0f)), e);
    VEC f = V_SUB(mantissa, V_SPLAT(1.0f)), s = V_DIV(f, V_ADD(f, V_SPLAT(2.0f)));
    VEC rest = V_FMA(e, V_SPLAT(-2.12194440e-4f), V_FNMA(s, f, v_log_rest(s)));
    VEC y = V_FMA(e, V_SPLAT(0.693359375f), V_ADD(f, rest));
    y = V_SELECT(V_IS_LESS(V_SPLAT(3.4028235e38f), x), x, y); /* infinity */
    y = V_SELECT(V_IS_LESS(x, V_SPLAT(1e-45f)), V_SPLAT(-INFINITY), y);
    y = V_SELECT(V_IS_LESS(x, V_ZERO()), V_SPLAT(NAN), y);
    return V_SELECT(V_IS_NAN(x), x, y);
}

/* max(x, 0) + log(1 + exp(-|x|)) */
static inline VEC v_softplus(VEC x) {
    return V_ADD(V_KEEP_POSITIVE(x), v_log1p(v_exp(V_NEGATE(V_ABS(x)))));
}

/* Up to 0.92: x + x P(x^2), error 1.5e-8; beyond: 1 - exp(-t (1 + Q(t))), t = |x| to 4 where erf rounds to 1,
 * error 3e-9. */
static inline VEC v_erf(VEC x) {
    VEC t = V_MIN(V_SPLAT(4.0f), V_ABS(x)), z = V_MUL(x, x);
    VEC p = V_SPLAT(-6.02180837e-4f);
    p = V_FMA(p, z, V_SPLAT(4.99960175e-3f));
    p = V_FMA(p, z, V_SPLAT(-2.67712846e-2f));
    p = V_FMA(p, z, V_SPLAT(1.12819552e-1f));
    p = V_FMA(p, z, V_SPLAT(-3.76125067e-1f));
    p = V_FMA(p, z, V_SPLAT(1.28379151e-1f));
    VEC near = V_FMA(p, x, x);
    VEC q = V_SPLAT(-2.13985026e-4f);
    q = V_FMA(q, t, V_SPLAT(3.21495626e-3f));
    q = V_FMA(q, t, V_SPLAT(-2.28899661e-2f));
    q = V_FMA(q, t, V_SPLAT(1.05261847e-1f));
    q = V_FMA(q, t, V_SPLAT(6.35718286e-1f));
    q = V_FMA(q, t, V_SPLAT(1.28514364e-1f));
    VEC far = V_SIGNED(V_SUB(V_SPLAT(1.0f), v_exp(V_NEGATE(V_FMA(q, t, t)))), x);
    return V_SELECT(V_IS_LESS(t, V_SPLAT(0.92f)), near, far);
}

#endif
