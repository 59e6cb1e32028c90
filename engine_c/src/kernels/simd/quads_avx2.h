/* Vectors of AVX2 for simd/byte_tile.h. vpmaddubsw would add two products of bytes in 16 bits, and saturate;
 * so bytes are widened, the even and the odd ones of a quad apart, and pairs of words are multiplied exactly.
 */
#ifndef WE_KERNELS_SIMD_QUADS_AVX2_H
#define WE_KERNELS_SIMD_QUADS_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES 8
#define SUMS __m256i
#define FLOATS __m256
#define LEFT q_words
#define RIGHT q_words

typedef struct q_words {
    __m256i even, odd;
} q_words;

static inline q_words q_splat(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const __m256i all = _mm256_set1_epi32(four);
    return (q_words){_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(all, 8)};
}
static inline q_words q_columns(const int8_t *p) {
    const __m256i all = _mm256_loadu_si256((const __m256i *)p);
    return (q_words){_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
}
static inline __m256i q_dot(__m256i sums, q_words left, q_words right) {
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(left.even, right.even));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(left.odd, right.odd));
}
#define Q_SPLAT(p) q_splat(p)
#define Q_COLUMNS(p) q_columns(p)
#define Q_DOT(sums, left, right) q_dot(sums, left, right)

#define Q_INTS(p) _mm256_loadu_si256((const __m256i *)(p))
#define Q_FLOATS(p) _mm256_loadu_ps(p)
#define Q_ALL(value) _mm256_set1_ps(value)
#define Q_ALL_INTS(value) _mm256_set1_epi32(value)
#define Q_MUL(a, b) _mm256_mul_ps(a, b)
#define Q_ADD(a, b) _mm256_add_ps(a, b)
#define Q_MOST(a, b) _mm256_max_ps(a, b)
#define Q_LEAST(a, b) _mm256_min_ps(a, b)
#define Q_ADD_INTS(a, b) _mm256_add_epi32(a, b)
#define Q_SUB_INTS(a, b) _mm256_sub_epi32(a, b)
#define Q_TO_FLOATS(v) _mm256_cvtepi32_ps(v)
/* To the nearest integer, ties to even. */
#define Q_ROUND(v) _mm256_cvtps_epi32(_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))

#define Q_KEEP(p, v) _mm256_storeu_si256((__m256i *)(p), v)

/* The low bytes of the lanes. */
static inline void q_store_bytes(uint8_t *p, int count, __m256i v) {
    const __m256i first = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4,
                                           8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i packed = _mm256_shuffle_epi8(v, first);
    const __m128i bytes =
        _mm_unpacklo_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1));
    if (count == LANES) {
        _mm_storel_epi64((__m128i *)p, bytes);
        return;
    }
    uint64_t all = (uint64_t)_mm_cvtsi128_si64(bytes);
    memcpy(p, &all, (size_t)count);
}
#define Q_STORE_BYTES(p, count, v) q_store_bytes(p, (int)(count), v)

static inline __m256i q_bytes(const uint8_t *p, int count, uint8_t flip) {
    uint64_t all = 0;
    memcpy(&all, p, (size_t)count);
    return _mm256_cvtepu8_epi32(_mm_xor_si128(_mm_cvtsi64_si128((int64_t)all), _mm_set1_epi8((char)flip)));
}
#define Q_BYTES(p, count, flip) q_bytes(p, (int)(count), flip)

#endif
