/* Squares of 16 x 16 elements, lines of the cache on either side, turned in registers: pairs, then fours,
 * then quarters change places. What is left at the edges takes the same way in parts of vectors. */
#ifndef WE_KERNELS_SIMD_SQUARE_AVX512_H
#define WE_KERNELS_SIMD_SQUARE_AVX512_H

#include <immintrin.h>
#include <stdint.h>

enum {
    SIDE = 16,
};

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 first(int32_t count) {
    return (__mmask16)(0xffffu >> (SIDE - count));
}

/* Vector j holds elements (0 to 15) of line j; then vector i those of place i of all lines. */
INLINE void turn(__m512 *v) {
    __m512 pairs[SIDE], fours[SIDE];
    UNROLL for (int j = 0; j < SIDE; j += 2) {
        pairs[j] = _mm512_unpacklo_ps(v[j], v[j + 1]);
        pairs[j + 1] = _mm512_unpackhi_ps(v[j], v[j + 1]);
    }
    UNROLL for (int j = 0; j < SIDE; j += 4) {
        fours[j] = _mm512_shuffle_ps(pairs[j], pairs[j + 2], 0x44);
        fours[j + 1] = _mm512_shuffle_ps(pairs[j], pairs[j + 2], 0xEE);
        fours[j + 2] = _mm512_shuffle_ps(pairs[j + 1], pairs[j + 3], 0x44);
        fours[j + 3] = _mm512_shuffle_ps(pairs[j + 1], pairs[j + 3], 0xEE);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        __m512 low = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0x44);
        __m512 low_next = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0x44);
        __m512 high = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0xEE);
        __m512 high_next = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0xEE);
        v[i] = _mm512_shuffle_f32x4(low, low_next, 0x88);
        v[i + 4] = _mm512_shuffle_f32x4(low, low_next, 0xDD);
        v[i + 8] = _mm512_shuffle_f32x4(high, high_next, 0x88);
        v[i + 12] = _mm512_shuffle_f32x4(high, high_next, 0xDD);
    }
}

/* `rows` elements of `columns` lines, up to SIDE of each, to as many lines. */
INLINE void turn_square(int32_t rows, int32_t columns, const float *in, int64_t in_row, float *out,
                        int64_t out_row) {
    __m512 v[SIDE];
    UNROLL for (int32_t j = 0; j < SIDE; j++) v[j] =
        j < columns ? _mm512_maskz_loadu_ps(first(rows), in + j * in_row) : _mm512_setzero_ps();
    turn(v);
    UNROLL for (int32_t i = 0; i < SIDE; i++) {
        if (i < rows)
            _mm512_mask_storeu_ps(out + i * out_row, first(columns), v[i]);
    }
}

#undef UNROLL
#undef INLINE

#endif
