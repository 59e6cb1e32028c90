/* Vectors of AVX-512 for simd/byte_tile.h: one instruction multiplies four bytes of a lane and adds them,
 * exactly. */
#ifndef WE_KERNELS_SIMD_QUADS_AVX512VNNI_H
#define WE_KERNELS_SIMD_QUADS_AVX512VNNI_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/bytes.h"

#define LANES 16
#define SUMS __m512i
#define LEFT __m512i
#define RIGHT __m512i

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
#define Q_MOST(a, b) _mm512_max_ps(a, b)
#define Q_LEAST(a, b) _mm512_min_ps(a, b)
/* To the nearest integer, ties to even. */
#define Q_ROUND(v) _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

#define Q_KEEP(p, v) _mm512_storeu_si512(p, v)

/* A range for bytes made by packing, which saturates: results in 16 bits get the zero point, and those in 8
 * the lower limit. Only what is too large for an integer, and the upper limit, have to be dealt with before.
 */
typedef struct q_packed_range {
    __m512 high;
    __m512i zero, lowest; /* of 16 and of 8 bits */
    bool is_signed;       /* where nothing is below 0 it does not matter */
} q_packed_range;

static inline q_packed_range q_packed_range_of(const we_byte_range *range) {
    const int32_t lowest = (int32_t)range->low + range->zero;
    return (q_packed_range){_mm512_set1_ps(range->high), _mm512_set1_epi16((int16_t)range->zero),
                            _mm512_set1_epi8((char)lowest), lowest < 0};
}

/* Four vectors of whole numbers as bytes: in each 128 bits four of each. */
static inline __m512i q_pack(__m512i a, __m512i b, __m512i c, __m512i d, const q_packed_range *r) {
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), r->zero);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), r->zero);
    return r->is_signed ? _mm512_max_epi8(_mm512_packs_epi16(low, high), r->lowest)
                        : _mm512_max_epu8(_mm512_packus_epi16(low, high), r->lowest);
}

/* Two vectors of a tile's row as whole numbers of `last`; where there is something to add, by way of `own`.
 */
typedef struct q_pair {
    __m512i v[2];
} q_pair;

static inline __attribute__((always_inline)) q_pair q_whole(const we_byte_tile *t, const int32_t *sums,
                                                            const __m512 *factor, const __m512 *shift,
                                                            const uint8_t *added, __mmask32 mask,
                                                            __m512 high) {
    const we_byte_range *own = &t->how->range;
    q_pair out;
    __m512i others[2];
    if (added) {
        const __m256i bytes =
            _mm256_xor_si256(_mm256_maskz_loadu_epi8(mask, added), _mm256_set1_epi8((char)t->then->b_flip));
        others[0] = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(bytes));
        others[1] = _mm512_cvtepu8_epi32(_mm256_extracti128_si256(bytes, 1));
    }
    for (int j = 0; j < 2; j++) {
        __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums + j * LANES)), factor[j]);
        if (shift)
            value = _mm512_add_ps(value, shift[j]);
        if (added) {
            const __m512i other = _mm512_sub_epi32(others[j], _mm512_set1_epi32(t->then->b_zero));
            value = Q_LEAST(Q_MOST(value, _mm512_set1_ps(own->low)), _mm512_set1_ps(own->high));
            value = _mm512_mul_ps(_mm512_cvtepi32_ps(Q_ROUND(value)), _mm512_set1_ps(t->then->a_factor));
            value = _mm512_add_ps(
                value, _mm512_mul_ps(_mm512_cvtepi32_ps(other), _mm512_set1_ps(t->then->b_factor)));
        }
        out.v[j] = Q_ROUND(_mm512_min_ps(value, high));
    }
    return out;
}

/* Bytes of a tile of two vectors a row, two rows at a time. */
static inline __attribute__((always_inline)) void q_finish_as(const we_byte_tile *t, const int32_t *sums,
                                                              const bool shifts, const bool adds) {
    const q_packed_range last = q_packed_range_of(adds ? &t->then->range : &t->how->range);
    const __mmask32 mask = t->n >= 2 * LANES ? 0xffffffffu : (1u << t->n) - 1;
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512 factor[2] = {Q_FLOATS(t->how->factor), Q_FLOATS(t->how->factor + LANES)};
    __m512 shift[2];
    for (int j = 0; j < 2 && shifts; j++)
        shift[j] = Q_FLOATS(t->how->shift + j * LANES);
    for (int32_t i = 0; i < t->m; i += 2, sums += 4 * LANES) {
        const int64_t at = i * t->ldc, next = i + 1 < t->m ? t->ldc : 0;
        const q_pair a =
            q_whole(t, sums, factor, shifts ? shift : NULL, adds ? t->added + at : NULL, mask, last.high);
        const q_pair b = q_whole(t, sums + (next ? 2 * LANES : 0), factor, shifts ? shift : NULL,
                                 adds ? t->added + at + next : NULL, mask, last.high);
        /* Of each 128 bits: four bytes of a's vectors, then of b's. */
        const __m512i rows = _mm512_permutexvar_epi32(order, q_pack(a.v[0], a.v[1], b.v[0], b.v[1], &last));
        _mm256_mask_storeu_epi8(t->c + at, mask, _mm512_castsi512_si256(rows));
        _mm256_mask_storeu_epi8(t->c + at + next, mask,
                                next ? _mm512_extracti64x4_epi64(rows, 1) : _mm512_castsi512_si256(rows));
    }
}

static inline void q_finish(const we_byte_tile *t, const int32_t *sums) {
    const bool shifts = t->how->shift != NULL, adds = t->added != NULL;
    if (shifts)
        adds ? q_finish_as(t, sums, true, true) : q_finish_as(t, sums, true, false);
    else
        adds ? q_finish_as(t, sums, false, true) : q_finish_as(t, sums, false, false);
}
#define Q_FINISH q_finish

#endif
