/* Words of two bfloat16 over AVX-512 BF16: what avx512.h has, with a dot product of words as multiply-add. */
#ifndef WE_KERNELS_SIMD_AVX512BF16_H
#define WE_KERNELS_SIMD_AVX512BF16_H

#include "kernels/simd/narrow.h"

/* c + a.low * b.low + a.high * b.high per lane; denormals, of operands and results, are zeros. */
#undef V_FMA
#define V_FMA(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
/* `count` <= LANES numbers that lie as bfloat16. */
#define V_LOAD_NARROW(p, count) v_load_narrow(p, (int)(count))
#define V_STORE_NARROW(p, count, v) v_store_narrow(p, (int)(count), v)

/* The words of up to 2 * LANES elements; zeros behind the last. */
static inline void v_round_words(const float *x, int64_t left, float *words) {
    VEC low, high;
    if (left >= 2 * LANES) {
        low = V_LOAD(x);
        high = V_LOAD(x + LANES);
    } else {
        const uint32_t mask = 0xffffffffu >> (2 * LANES - left);
        low = _mm512_maskz_loadu_ps((__mmask16)mask, x);
        high = _mm512_maskz_loadu_ps((__mmask16)(mask >> LANES), x + LANES);
    }
    _mm512_storeu_si512(words, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

#endif
