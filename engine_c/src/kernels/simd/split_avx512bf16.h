/* Splitting by the conversion instruction, 32 elements at a time. It rounds to nearest even and takes
 * denormals for zeros. */
#ifndef WE_KERNELS_SIMD_SPLIT_H
#define WE_KERNELS_SIMD_SPLIT_H

#include <immintrin.h>
#include <stdint.h>

enum {
    LANES = 16,
};

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load(const float *x, int64_t count) {
    return count >= LANES
               ? _mm512_loadu_ps(x)
               : _mm512_maskz_loadu_ps((__mmask16)(count <= 0 ? 0 : 0xFFFFu >> (LANES - count)), x);
}

INLINE void store(float *to, int64_t count, __m512i words) {
    if (count >= LANES)
        _mm512_storeu_si512(to, words);
    else
        _mm512_mask_storeu_epi32(to, (__mmask16)(0xFFFFu >> (LANES - count)), words);
}

INLINE __m512i larger(__m512i largest, __m512 x) {
    return _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF)));
}

/* Of 16 numbers; they become what is left. Bits in the low halves. */
INLINE __m512i take_part(__m512 *x) {
    __m512i part = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(*x));
    *x = _mm512_sub_ps(*x, _mm512_castsi512_ps(_mm512_slli_epi32(part, 16)));
    return part;
}

/* The first part of 32 neighbours goes the short way. */
INLINE uint32_t split(int32_t parts, int64_t n, const float *x, int64_t words, float *to, int64_t part) {
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
    __m512i largest = _mm512_setzero_si512();
    for (int64_t w = 0; w < words; w += LANES) {
        __m512 low = load(x + 2 * w, n - 2 * w), high = load(x + 2 * w + LANES, n - 2 * w - LANES);
        largest = larger(larger(largest, low), high);
        if (parts == 1) {
            store(to + w, words - w, (__m512i)_mm512_cvtne2ps_pbh(high, low));
            continue;
        }
        __m512 even = _mm512_permutex2var_ps(low, evens, high);
        __m512 odd = _mm512_permutex2var_ps(low, odds, high);
        for (int32_t p = 0; p < parts; p++) {
            __m512i first = take_part(&even);
            store(to + p * part + w, words - w,
                  _mm512_or_si512(first, _mm512_slli_epi32(take_part(&odd), 16)));
        }
    }
    return _mm512_reduce_max_epu32(largest);
}

INLINE uint32_t pair(int32_t parts, int64_t n, const float *even, const float *odd, float *to, int64_t part) {
    __m512i largest = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += LANES) {
        __m512 low = load(even + i, n - i), high = load(odd + i, n - i);
        largest = larger(larger(largest, low), high);
        for (int32_t p = 0; p < parts; p++) {
            __m512i first = take_part(&low);
            store(to + p * part + i, n - i, _mm512_or_si512(first, _mm512_slli_epi32(take_part(&high), 16)));
        }
    }
    return _mm512_reduce_max_epu32(largest);
}

#endif
