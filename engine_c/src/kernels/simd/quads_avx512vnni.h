/* Vectors of AVX-512 for simd/byte_tile.h: one instruction multiplies four bytes of a lane and adds them, exactly. */
#ifndef WE_KERNELS_SIMD_QUADS_AVX512VNNI_H
#define WE_KERNELS_SIMD_QUADS_AVX512VNNI_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define SUMS __m512i
#define FLOATS __m512
#define LEFT __m512i
#define RIGHT __m512i

#define MASK(count) ((__mmask16)((1u << (count)) - 1))

static inline __m512i q_splat(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
#define Q_SPLAT(p) q_splat(p)
#define Q_COLUMNS(p) _mm512_loadu_si512(p)
#define Q_DOT(sums, left, right) _mm512_dpbusd_epi32(sums, left, right)

#define Q_INTS(p) _mm512_loadu_si512(p)
#define Q_FLOATS(p) _mm512_loadu_ps(p)
#define Q_ALL(value) _mm512_set1_ps(value)
#define Q_ALL_INTS(value) _mm512_set1_epi32(value)
#define Q_MUL(a, b) _mm512_mul_ps(a, b)
#define Q_ADD(a, b) _mm512_add_ps(a, b)
#define Q_MOST(a, b) _mm512_max_ps(a, b)
#define Q_LEAST(a, b) _mm512_min_ps(a, b)
#define Q_ADD_INTS(a, b) _mm512_add_epi32(a, b)
#define Q_SUB_INTS(a, b) _mm512_sub_epi32(a, b)
#define Q_TO_FLOATS(v) _mm512_cvtepi32_ps(v)
/* To the nearest integer, ties to even. */
#define Q_ROUND(v) _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

#define Q_KEEP_INTS(p, v) _mm512_storeu_si512(p, v)

/* The low bytes of the lanes. */
static inline void q_store_bytes(uint8_t *p, int count, __m512i v) {
    const __m128i bytes = _mm512_cvtepi32_epi8(v);
    if (count == LANES)
        _mm_storeu_si128((__m128i *)p, bytes);
    else
        _mm_mask_storeu_epi8(p, MASK(count), bytes);
}
#define Q_STORE_BYTES(p, count, v) q_store_bytes(p, (int)(count), v)

static inline __m512i q_bytes(const uint8_t *p, int count, uint8_t flip) {
    const __m128i bytes = count == LANES ? _mm_loadu_si128((const __m128i *)p) : _mm_maskz_loadu_epi8(MASK(count), p);
    return _mm512_cvtepu8_epi32(_mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
}
#define Q_BYTES(p, count, flip) q_bytes(p, (int)(count), flip)

#endif
