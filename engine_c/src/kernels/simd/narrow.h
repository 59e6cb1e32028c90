/* Images of bfloat16 over avx512.h: 16 numbers at a time, or 32 in two vectors. */
#ifndef WE_KERNELS_SIMD_NARROW_H
#define WE_KERNELS_SIMD_NARROW_H

#include <stdint.h>

#include "kernels/simd/avx512.h"

/* What lies in an image (see image.h). */
#define ELEMENT uint16_t
#define V_LOAD_IMAGE(p, count) v_load_narrow(p, (int)(count))
#define V_STORE_IMAGE(p, count, v) v_store_narrow(p, (int)(count), v)

/* The first `count` <= LANES. */
static inline VEC v_load_narrow(const uint16_t *from, int count) {
    __m256i halves = _mm256_maskz_loadu_epi16((__mmask16)(0xffffu >> (LANES - count)), from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

static inline void v_store_narrow(uint16_t *to, int count, VEC v) {
    _mm256_mask_storeu_epi16(to, (__mmask16)(0xffffu >> (LANES - count)), (__m256i)_mm512_cvtneps_pbh(v));
}

/* Neighbours share a word, so those at even places and those at odd ones make a vector each: without a
 * shuffle, which would cost more than what is computed. The first `count` <= 2 * LANES. */
static inline void v_load_pairs(const uint16_t *from, int count, VEC *even, VEC *odd) {
    __m512i words = count == 2 * LANES ? _mm512_loadu_si512(from)
                                       : _mm512_maskz_loadu_epi16(0xffffffffu >> (2 * LANES - count), from);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000)));
}

/* Rounded together, then brought in order: two instructions where each by itself would take six (windows of
 * 3 x 3: 20.7 to 15.3 cycles a vector on Zen 5). */
static inline void v_store_pairs(uint16_t *to, int count, VEC even, VEC odd) {
    const __m512i interleaved = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                                 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i words = _mm512_permutexvar_epi16(interleaved, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
    if (count == 2 * LANES)
        _mm512_storeu_si512(to, words);
    else
        _mm512_mask_storeu_epi16(to, 0xffffffffu >> (2 * LANES - count), words);
}

/* The same of float32. */
static inline void v_load_apart(const float *from, int count, VEC *even, VEC *odd) {
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const uint32_t mask = 0xffffffffu >> (2 * LANES - count);
    VEC low = _mm512_maskz_loadu_ps((__mmask16)mask, from);
    VEC high = _mm512_maskz_loadu_ps((__mmask16)(mask >> LANES), from + LANES);
    *even = _mm512_permutex2var_ps(low, evens, high);
    *odd = _mm512_permutex2var_ps(low, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), high);
}

#endif
