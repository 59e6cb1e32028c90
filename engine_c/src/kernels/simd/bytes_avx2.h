/* Integer vectors over AVX2: two lanes of 16 bytes; bytes_avx512.h says what each does. */
#ifndef WE_KERNELS_SIMD_BYTES_AVX2_H
#define WE_KERNELS_SIMD_BYTES_AVX2_H

#include <immintrin.h>

#define BYTES __m256i
#define FLOATS __m256
enum { B_LANES = 2, B_DWORDS = 4 * B_LANES, B_COUNT = 16 * B_LANES };
#define I(op) _mm256_##op
#define B_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define B_STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define B_ZERO() _mm256_setzero_si256()
#define B_AND(a, b) _mm256_and_si256(a, b)
#define B_OR(a, b) _mm256_or_si256(a, b)
#define B_BITS(floats) _mm256_castps_si256(floats)
#define B_FLOATS(bits) _mm256_castsi256_ps(bits)
#define B_EACH(lane) _mm256_broadcastsi128_si256(lane)
#define B_LOAD_WORDS(p) _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define B_LOAD_DWORDS(p) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
#define B_PICK_EQUAL(a, b, yes, no) _mm256_blendv_epi8(no, yes, _mm256_cmpeq_epi32(a, b))
#define B_PICK_LESS(a, b, yes, no) _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi32(b, a))
#define B_GATHER(x, at) _mm256_i32gather_epi32((const int *)(const void *)(x), at, 1)
#define B_EVEN_DWORDS(p)                                                                                     \
    _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(p))), \
                                _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2))
#define B_ODD_DWORDS(p)                                                                                      \
    _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(p))), \
                                _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3))
#define B_LANE_DWORDS(p)                                                                                     \
    _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)(p))), \
                                _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1))
static inline BYTES b_load_twelves(const void *p) {
    __m128i low = _mm_loadu_si128((const __m128i *)p),
            high = _mm_loadu_si128((const __m128i *)(const void *)((const char *)p + 8));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_srli_si128(high, 4), 1);
}
#define B_TURN_LANES(v) _mm256_permute2x128_si256(v, v, 1)
#define B_BIT(mask, k) (char)((mask) >> (k) & 1 ? -128 : 0)
#define B_EIGHT(mask, k)                                                                                     \
    B_BIT(mask, k), B_BIT(mask, k + 1), B_BIT(mask, k + 2), B_BIT(mask, k + 3), B_BIT(mask, k + 4),          \
        B_BIT(mask, k + 5), B_BIT(mask, k + 6), B_BIT(mask, k + 7)
#define B_BLEND(mask, a, b)                                                                                  \
    _mm256_blendv_epi8(                                                                                      \
        a, b, _mm256_setr_epi8(B_EIGHT(mask, 0), B_EIGHT(mask, 8), B_EIGHT(mask, 0), B_EIGHT(mask, 8)))
#define B_ANY_ABOVE(v, most)                                                                                 \
    (_mm256_movemask_epi8(                                                                                   \
         _mm256_cmpeq_epi32(_mm256_max_epu32(v, _mm256_set1_epi32(most)), _mm256_set1_epi32(most))) != -1)
static inline void b_load_threes(const void *p, BYTES out[3]) {
    BYTES a = B_LOAD(p), b = B_LOAD((const char *)p + 32), c = B_LOAD((const char *)p + 64);
    out[0] = _mm256_permute2x128_si256(a, b, 0x30);
    out[1] = _mm256_permute2x128_si256(a, c, 0x21);
    out[2] = _mm256_permute2x128_si256(b, c, 0x30);
}
static inline void b_store_threes(void *p, const BYTES v[3]) {
    B_STORE(p, _mm256_permute2x128_si256(v[0], v[1], 0x20));
    B_STORE((char *)p + 32, _mm256_permute2x128_si256(v[2], v[0], 0x30));
    B_STORE((char *)p + 64, _mm256_permute2x128_si256(v[1], v[2], 0x31));
}
#define B_LANES_OF(lane) _mm256_inserti128_si256(_mm256_castsi128_si256(lane(0)), lane(1), 1)

static inline __m128i b_words_of_dwords(BYTES v) {
    return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
#define B_STORE_WORDS_OF_DWORDS(p, v) _mm_storeu_si128((__m128i *)(void *)(p), b_words_of_dwords(v))
#define B_STORE_DWORDS(p, v)                                                                                 \
    _mm_storel_epi64((__m128i *)(void *)(p), _mm_packus_epi16(b_words_of_dwords(v), _mm_setzero_si128()))

static inline void b_store_twelves(void *p, BYTES v) {
    v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(v));
    _mm_storel_epi64((__m128i *)p + 1, _mm256_extracti128_si256(v, 1));
}

#endif
