/* Squares of 8 x 8 elements of 4 bytes turned in registers: pairs, then fours, then halves change places. */
#ifndef WE_KERNELS_SIMD_SQUARE_AVX2_H
#define WE_KERNELS_SIMD_SQUARE_AVX2_H

#include <immintrin.h>
#include <stdint.h>

enum {
    SIDE = 8,
};

#define UNROLL _Pragma("GCC unroll 8")

static inline void turn_square(const uint32_t *in, int64_t in_row, uint32_t *out, int64_t out_row) {
    __m256 row[SIDE], pairs[SIDE], fours[SIDE];
    UNROLL for (int j = 0; j < SIDE; j++) row[j] = _mm256_loadu_ps((const float *)(in + j * in_row));
    UNROLL for (int j = 0; j < SIDE; j += 2) {
        pairs[j] = _mm256_unpacklo_ps(row[j], row[j + 1]);
        pairs[j + 1] = _mm256_unpackhi_ps(row[j], row[j + 1]);
    }
    UNROLL for (int j = 0; j < SIDE; j += 4) {
        fours[j] = _mm256_shuffle_ps(pairs[j], pairs[j + 2], 0x44);
        fours[j + 1] = _mm256_shuffle_ps(pairs[j], pairs[j + 2], 0xEE);
        fours[j + 2] = _mm256_shuffle_ps(pairs[j + 1], pairs[j + 3], 0x44);
        fours[j + 3] = _mm256_shuffle_ps(pairs[j + 1], pairs[j + 3], 0xEE);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps((float *)(out + i * out_row), _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
        _mm256_storeu_ps((float *)(out + (i + 4) * out_row),
                         _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
    }
}

#undef UNROLL

#endif
