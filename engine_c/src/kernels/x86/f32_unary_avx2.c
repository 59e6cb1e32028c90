#include <math.h>

#include "kernels/kernels.h"
#include "kernels/simd/avx2.h"

/* Runs of 8, then the tail through a padded buffer, so that every element takes the same instructions. */
#define UNARY(name, vector_formula)                                                                          \
    void we_f32_unary_##name##__avx2(int64_t n, const void *in, void *out) {                                 \
        const float *xs = in;                                                                                \
        float *ys = out;                                                                                     \
        int64_t i = 0;                                                                                       \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            VEC x = V_LOAD(xs + i);                                                                          \
            V_STORE(ys + i, vector_formula);                                                                 \
        }                                                                                                    \
        if (i < n) {                                                                                         \
            float tail[LANES] = {0};                                                                         \
            for (int64_t j = i; j < n; j++)                                                                  \
                tail[j - i] = xs[j];                                                                         \
            VEC x = V_LOAD(tail);                                                                            \
            V_STORE(tail, vector_formula);                                                                   \
            for (int64_t j = i; j < n; j++)                                                                  \
                ys[j] = tail[j - i];                                                                         \
        }                                                                                                    \
    }

/* exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2)/2; exp(r) by its Taylor polynomial of degree 7,
 * whose truncation there is below 6e-9. ln 2 is split in two so that n * high is exact (Cody and Waite). The
 * power of two is applied in two halves, so that results below 2^-126 are rounded once and need no special
 * case. */
static inline VEC exp8(VEC x) {
    const VEC lowest = V_SPLAT(-104.0f), highest = V_SPLAT(89.0f); /* past them exp is 0 or infinite */
    /* MINPS and MAXPS return the second operand for NaN, so NaN passes both. */
    VEC clamped = _mm256_max_ps(lowest, _mm256_min_ps(highest, x));
    VEC n = _mm256_round_ps(_mm256_mul_ps(clamped, V_SPLAT(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    VEC r = _mm256_fnmadd_ps(n, V_SPLAT(0.693359375f), clamped);
    r = _mm256_fnmadd_ps(n, V_SPLAT(-2.12194440e-4f), r);
    VEC p = V_SPLAT(1.0f / 5040);
    p = V_FMA(p, r, V_SPLAT(1.0f / 720));
    p = V_FMA(p, r, V_SPLAT(1.0f / 120));
    p = V_FMA(p, r, V_SPLAT(1.0f / 24));
    p = V_FMA(p, r, V_SPLAT(1.0f / 6));
    p = V_FMA(p, r, V_SPLAT(0.5f));
    p = V_FMA(p, r, V_SPLAT(1.0f));
    p = V_FMA(p, r, V_SPLAT(1.0f));
    __m256i whole = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i bias = _mm256_set1_epi32(127);
    VEC first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256i rest = _mm256_sub_epi32(whole, half);
    VEC second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    VEC result = _mm256_mul_ps(_mm256_mul_ps(p, first), second);
    VEC is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_blendv_ps(result, x, is_nan);
}

static inline VEC sigmoid8(VEC x) {
    VEC one = V_SPLAT(1.0f);
    return _mm256_div_ps(one, V_ADD(one, exp8(_mm256_xor_ps(x, V_SPLAT(-0.0f)))));
}

UNARY(neg, _mm256_xor_ps(x, V_SPLAT(-0.0f)))
UNARY(abs, _mm256_andnot_ps(V_SPLAT(-0.0f), x))
UNARY(sqrt, _mm256_sqrt_ps(x))
UNARY(relu, V_KEEP_POSITIVE(x))
UNARY(exp, exp8(x))
UNARY(sigmoid, sigmoid8(x))
