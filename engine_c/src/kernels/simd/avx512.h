/* float32 wrappers over AVX-512 (F and DQ), 16 lanes. */
#ifndef WE_KERNELS_SIMD_AVX512_H
#define WE_KERNELS_SIMD_AVX512_H

#include <immintrin.h>

#define LANES 16
#define VEC __m512
#define V_ZERO() _mm512_setzero_ps()
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps(p, v)
#define V_SPLAT(f) _mm512_set1_ps(f)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_SUB(a, b) _mm512_sub_ps(a, b)
#define V_MUL(a, b) _mm512_mul_ps(a, b)
#define V_DIV(a, b) _mm512_div_ps(a, b)
#define V_FNMA(a, b, c) _mm512_fnmadd_ps(a, b, c) /* c - a * b */
#define V_SQRT(v) _mm512_sqrt_ps(v)
/* The second operand where either is NaN. */
#define V_MAX(a, b) _mm512_max_ps(a, b)
#define V_MIN(a, b) _mm512_min_ps(a, b)
#define V_NEAREST(v) _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_FLOOR(v) _mm512_floor_ps(v)
#define V_CEIL(v) _mm512_ceil_ps(v)
#define V_NEGATE(v) _mm512_xor_ps(v, V_SPLAT(-0.0f))
#define V_ABS(v) _mm512_andnot_ps(V_SPLAT(-0.0f), v)
/* `size`, which is not negative, with the sign of v. */
#define V_SIGNED(size, v) _mm512_or_ps(size, _mm512_and_ps(v, V_SPLAT(-0.0f)))
/* MAXPS returns its second operand when either is NaN or both are zero. */
#define V_RAISE(v, least) _mm512_max_ps(_mm512_set1_ps(least), v)
#define V_KEEP_POSITIVE(v) V_RAISE(v, 0)

/* The first `count` < LANES lanes; the others read as zero and are not written. */
#define V_LOAD_PART(p, count) _mm512_maskz_loadu_ps((__mmask16)((0xffffu >> (16 - (count)))), p)
#define V_STORE_PART(p, count, v) _mm512_mask_storeu_ps(p, (__mmask16)((0xffffu >> (16 - (count)))), v)

/* The same for count <= LANES. */
#define V_LOAD_UP_TO(p, count) V_LOAD_PART(p, count)
#define V_STORE_UP_TO(p, count, v) V_STORE_PART(p, count, v) /* a mask costs nothing */

/* MINPS likewise, so NaN stays. */
#define V_CAP(v, most) _mm512_min_ps(_mm512_set1_ps(most), v)
/* The larger, NaN where either is: MAXPS hands on a NaN of its second operand only. */
#define V_LARGER(a, b) _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a)
#define V_SMALLER(a, b) _mm512_mask_mov_ps(_mm512_min_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a)

#define V_MASK __mmask16
#define V_IS_LESS(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
#define V_IS_EQUAL(a, b) _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
#define V_IS_UNORDERED(a, b) _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q) /* either is NaN */
#define V_EITHER(a, b) ((V_MASK)((a) | (b)))
#define V_IS_NAN(v) _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q)
#define V_ANY(mask) ((mask) != 0)
#define V_SELECT(mask, yes, no) _mm512_mask_mov_ps(no, mask, yes)

/* 2^n for whole n in [-126, 127]. */
static inline VEC v_power(VEC n) {
    return _mm512_scalef_ps(V_SPLAT(1.0f), n);
}

/* v * 2^n for whole n, rounded once. */
static inline VEC v_scale(VEC v, VEC n) {
    return _mm512_scalef_ps(v, n);
}

/* *mantissa in [1, 2) and the exponent with v = *mantissa * 2^exponent, for finite positive v. */
static inline VEC v_split(VEC v, VEC *mantissa) {
    *mantissa = _mm512_getmant_ps(v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    return _mm512_getexp_ps(v);
}

/* table[whole], whole in [0, 15]; NaN finds any entry. */
static inline VEC v_lookup(const float *table, VEC whole) {
    return _mm512_permutexvar_ps(_mm512_cvttps_epi32(whole), _mm512_loadu_ps(table));
}

/* LANES bytes as whole numbers; their lower or upper 4 bits; such as float32. */
#define V_CODES(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define V_LOW_HALF(codes) _mm512_and_si512(codes, _mm512_set1_epi32(15))
#define V_HIGH_HALF(codes) _mm512_srli_epi32(codes, 4)
#define V_NUMBERS(codes) _mm512_cvtepi32_ps(codes)

static inline float v_sum(VEC v) {
    return _mm512_reduce_add_ps(v);
}

/* Of lanes that are not NaN. */
static inline float v_largest(VEC v) {
    return _mm512_reduce_max_ps(v);
}

static inline float v_smallest(VEC v) {
    return -v_largest(V_NEGATE(v));
}

/* Lane i: element at[i] - low, in [0, LANES), of a vector; only the first `count` are for use. */
static inline VEC v_pick_near(VEC v, const int32_t *at, int32_t low, int32_t count) {
    __m512i index = _mm512_maskz_loadu_epi32((__mmask16)(0xffffu >> (16 - count)), at);
    return _mm512_permutexvar_ps(_mm512_sub_epi32(index, _mm512_set1_epi32(low)), v);
}

/* The same of two vectors that lie behind one another: at[i] - low in [0, 2 * LANES). */
static inline VEC v_pick_twice(VEC v, VEC next, const int32_t *at, int32_t low, int32_t count) {
    __m512i index = _mm512_maskz_loadu_epi32((__mmask16)(0xffffu >> (16 - count)), at);
    return _mm512_permutex2var_ps(v, _mm512_sub_epi32(index, _mm512_set1_epi32(low)), next);
}

/* Of 2 * LANES elements a, b: those at even places, at odd ones. */
#define V_EVEN(a, b)                                                                                         \
    _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b)
#define V_ODD(a, b)                                                                                          \
    _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b)

/* Lane i: x[at[i]] for i < count, else 0. */
static inline VEC v_pick(const float *x, const int32_t *at, int32_t count) {
    __mmask16 mask = (__mmask16)(0xffffu >> (16 - count));
    __m512i index = _mm512_maskz_loadu_epi32(mask, at);
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, index, x, 4);
}

#endif
