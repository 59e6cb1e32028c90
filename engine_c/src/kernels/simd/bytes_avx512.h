/* Integer vectors over AVX-512 (F, BW and DQ): four lanes of 16 bytes. Included by image_pixels.h. */
#ifndef WE_KERNELS_SIMD_BYTES_AVX512_H
#define WE_KERNELS_SIMD_BYTES_AVX512_H

#include <immintrin.h>

#define BYTES __m512i
#define FLOATS __m512
enum { B_LANES = 4, B_DWORDS = 4 * B_LANES, B_COUNT = 16 * B_LANES };
#define I(op) _mm512_##op /* the instruction of this width */
#define B_LOAD(p) _mm512_loadu_si512((const void *)(p))
#define B_STORE(p, v) _mm512_storeu_si512((void *)(p), v)
#define B_ZERO() _mm512_setzero_si512()
#define B_AND(a, b) _mm512_and_si512(a, b)
#define B_OR(a, b) _mm512_or_si512(a, b)
#define B_BITS(floats) _mm512_castps_si512(floats)
#define B_FLOATS(bits) _mm512_castsi512_ps(bits)
/* The same 16 bytes in every lane. */
#define B_EACH(lane) _mm512_broadcast_i32x4(lane)
/* Bytes widened to words or dwords, and the low bytes of dwords, which are no more than bytes, stored. */
#define B_LOAD_WORDS(p) _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define B_LOAD_DWORDS(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define B_STORE_DWORDS(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(v))
#define B_STORE_WORDS_OF_DWORDS(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16(v))
/* Dword by dword: yes where a == b, else no; yes where a < b, else no. */
#define B_PICK_EQUAL(a, b, yes, no) _mm512_mask_mov_epi32(no, _mm512_cmpeq_epi32_mask(a, b), yes)
#define B_PICK_LESS(a, b, yes, no) _mm512_mask_mov_epi32(no, _mm512_cmplt_epi32_mask(a, b), yes)
/* Dwords from x at offsets in bytes. */
#define B_GATHER(x, at) _mm512_i32gather_epi32(at, (const int *)(const void *)(x), 1)
/* Dwords p[0], p[2], ... one for a lane, in all four places of it; p has 2 * B_LANES. */
#define B_EVEN_DWORDS(p)                                                                                     \
    _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6),              \
                             _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#define B_ODD_DWORDS(p)                                                                                      \
    _mm512_permutexvar_epi32(_mm512_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5, 7, 7, 7, 7),              \
                             _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
/* p[0], p[1], ... one for a lane, in all four places of it; p has B_LANES. */
#define B_LANE_DWORDS(p)                                                                                     \
    _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),              \
                             _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)(p))))
/* Groups of 12 bytes, one for a lane. */
static inline BYTES b_load_twelves(const void *p) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 15, 3, 4, 5, 15, 6, 7, 8, 15, 9, 10, 11, 15),
                                    _mm512_maskz_loadu_epi32(0x0fff, p));
}
/* The last lane first. */
#define B_TURN_LANES(v) _mm512_shuffle_i64x2(v, v, 0x1b)
/* Bytes of b at the places of a lane that are set in `mask`, a constant, others of a. */
#define B_BLEND(mask, a, b) _mm512_mask_blend_epi8((mask) * 0x0001000100010001ull, a, b)
/* Is any dword above `most`, without sign? */
#define B_ANY_ABOVE(v, most) (_mm512_cmpgt_epu32_mask(v, _mm512_set1_epi32(most)) != 0)
/* Three vectors in a row, of groups of three units of 16 bytes, to a vector for each unit of the groups, and
 * back. */
static inline BYTES b_lanes(const BYTES v[3], int64_t a, int64_t b, int64_t c, int64_t d) {
    __m512i two = _mm512_setr_epi64(2 * a & 15, (2 * a & 15) + 1, 2 * b & 15, (2 * b & 15) + 1, 2 * c & 15,
                                    (2 * c & 15) + 1, 2 * d & 15, (2 * d & 15) + 1);
    __mmask8 third = (__mmask8)((a > 7) * 0x03 | (b > 7) * 0x0c | (c > 7) * 0x30 | (d > 7) * 0xc0);
    return _mm512_mask_permutexvar_epi64(_mm512_permutex2var_epi64(v[0], two, v[1]), third, two, v[2]);
}
static inline void b_load_threes(const void *p, BYTES out[3]) {
    const BYTES v[3] = {B_LOAD(p), B_LOAD((const char *)p + 64), B_LOAD((const char *)p + 128)};
    for (int k = 0; k < 3; k++)
        out[k] = b_lanes(v, k, 3 + k, 6 + k, 9 + k);
}
static inline void b_store_threes(void *p, const BYTES v[3]) { /* lane l of v[k] is 4 k + l */
    B_STORE(p, b_lanes(v, 0, 4, 8, 1));
    B_STORE((char *)p + 64, b_lanes(v, 5, 9, 2, 6));
    B_STORE((char *)p + 128, b_lanes(v, 10, 3, 7, 11));
}
/* lane(0), lane(1), ... as one vector. */
#define B_LANES_OF(lane)                                                                                     \
    _mm512_inserti32x4(                                                                                      \
        _mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(lane(0)), lane(1), 1), lane(2), 2),     \
        lane(3), 3)
/* The first 12 bytes of each lane, one after another. */
static inline void b_store_twelves(void *p, BYTES v) {
    v = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15), v);
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_castsi512_si256(v)); /* two stores are faster than one with a mask */
    _mm_storeu_si128((__m128i *)p + 2, _mm512_extracti32x4_epi32(v, 2));
}

#endif
