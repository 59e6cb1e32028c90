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

/* erf(t) / t on [0, 4) in 16 pieces of 1/4: the coefficients of d^0 to d^5, d from the middle of the piece;
 * error 3e-9. */
static const float ERF_PIECES[6][16] = {
    {1.12252963f, 1.07764506f, 0.997185409f, 0.896085799f, 0.789678454f, 0.689578235f, 0.602119207f,
     0.529061377f, 0.469339281f, 0.420722961f, 0.380874157f, 0.347809434f, 0.319996834f, 0.296295762f,
     0.275861979f, 0.258064508f},
    {-0.0931549445f, -0.259446084f, -0.373897403f, -0.424389422f, -0.419026196f, -0.377613425f, -0.32101351f,
     -0.264274955f, -0.215058103f, -0.175459579f, -0.144657627f, -0.120876245f, -0.102378264f, -0.0877875611f,
     -0.0760992467f, -0.0665972009f},
    {-0.365642309f, -0.288495272f, -0.16526486f, -0.0397309475f, 0.0541918091f, 0.104267411f, 0.117074728f,
     0.107401393f, 0.0888634846f, 0.069871515f, 0.0539598949f, 0.0417536981f, 0.0326962695f, 0.0259983577f,
     0.020990666f, 0.0171860252f},
    {0.0553772375f, 0.142984897f, 0.17534402f, 0.151600838f, 0.0962298885f, 0.0390333869f, -0.0013737675f,
     -0.0213114228f, -0.0262708496f, -0.0236383229f, -0.018693205f, -0.0140004568f, -0.0103348251f,
     -0.00767579395f, -0.00578537956f, -0.00443425542f},
    {0.106054433f, 0.0626983568f, 0.00198034174f, -0.0444001444f, -0.0603374988f, -0.0504389629f,
     -0.0297867022f, -0.0112713967f, -0.000127361098f, 0.00437602447f, 0.00504130777f, 0.00421293033f,
     0.00313142198f, 0.00223550061f, 0.00158987381f, 0.00114451093f},
    {-0.0194441974f, -0.0462021083f, -0.0464203209f, -0.0255043153f, -0.000650151924f, 0.0143846413f,
     0.016899446f, 0.0120439455f, 0.00591294467f, 0.0016779548f, -0.000305615045f, -0.000863714959f,
     -0.000814758474f, -0.000612894597f, -0.000427390274f, -0.000293173856f},
};

/* erf rounds to 1 from 3.92 on. */
static inline VEC v_erf(VEC x) {
    VEC size = V_ABS(x), t = V_MIN(V_SPLAT(3.999f), size), piece = V_FLOOR(V_MUL(t, V_SPLAT(4.0f)));
    VEC d = V_SUB(t, V_FMA(piece, V_SPLAT(0.25f), V_SPLAT(0.125f))), p = v_lookup(ERF_PIECES[5], piece);
    p = V_FMA(p, d, v_lookup(ERF_PIECES[4], piece));
    p = V_FMA(p, d, v_lookup(ERF_PIECES[3], piece));
    p = V_FMA(p, d, v_lookup(ERF_PIECES[2], piece));
    p = V_FMA(p, d, v_lookup(ERF_PIECES[1], piece));
    p = V_FMA(p, d, v_lookup(ERF_PIECES[0], piece));
    VEC y = V_SELECT(V_IS_LESS(V_SPLAT(3.92f), size), V_SPLAT(1.0f), V_MUL(p, t));
    return V_SIGNED(V_MIN(V_SPLAT(1.0f), y), x);
}

#endif
