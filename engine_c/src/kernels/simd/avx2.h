/* float32 wrappers over AVX2 and FMA, 8 lanes. */
#ifndef WE_KERNELS_SIMD_AVX2_H
#define WE_KERNELS_SIMD_AVX2_H

#include <immintrin.h>

#define LANES 8
#define VEC __m256
#define V_ZERO() _mm256_setzero_ps()
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps(p, v)
#define V_SPLAT(f) _mm256_set1_ps(f)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_SUB(a, b) _mm256_sub_ps(a, b)
#define V_MUL(a, b) _mm256_mul_ps(a, b)
#define V_DIV(a, b) _mm256_div_ps(a, b)
#define V_FNMA(a, b, c) _mm256_fnmadd_ps(a, b, c) /* c - a * b */
#define V_SQRT(v) _mm256_sqrt_ps(v)
/* The second operand where either is NaN. */
#define V_MAX(a, b) _mm256_max_ps(a, b)
#define V_MIN(a, b) _mm256_min_ps(a, b)
#define V_NEAREST(v) _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_FLOOR(v) _mm256_floor_ps(v)
#define V_CEIL(v) _mm256_ceil_ps(v)
#define V_NEGATE(v) _mm256_xor_ps(v, V_SPLAT(-0.0f))
#define V_ABS(v) _mm256_andnot_ps(V_SPLAT(-0.0f), v)
/* `size`, which is not negative, with the sign of v. */
#define V_SIGNED(size, v) _mm256_or_ps(size, _mm256_and_ps(v, V_SPLAT(-0.0f)))
/* MAXPS returns its second operand when either is NaN or both are zero. */
#define V_RAISE(v, least) _mm256_max_ps(_mm256_set1_ps(least), v)
#define V_KEEP_POSITIVE(v) V_RAISE(v, 0)

/* The first `count` < LANES lanes; the others read as zero and are not written. */
#define V_PART_MASK(count)                                                                                   \
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define V_LOAD_PART(p, count) _mm256_maskload_ps(p, V_PART_MASK(count))
#define V_STORE_PART(p, count, v) _mm256_maskstore_ps(p, V_PART_MASK(count), v)

/* The same for count <= LANES. */
#define V_LOAD_UP_TO(p, count) ((count) == LANES ? V_LOAD(p) : V_LOAD_PART(p, count))
#define V_STORE_UP_TO(p, count, v)                                                                           \
    do {                                                                                                     \
        if ((count) == LANES)                                                                                \
            V_STORE(p, v);                                                                                   \
        else                                                                                                 \
            V_STORE_PART(p, count, v);                                                                       \
    } while (0)

/* MINPS likewise, so NaN stays. */
#define V_CAP(v, most) _mm256_min_ps(_mm256_set1_ps(most), v)
/* The larger, NaN where either is: MAXPS hands on a NaN of its second operand only. */
#define V_LARGER(a, b) _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q))
#define V_SMALLER(a, b) _mm256_blendv_ps(_mm256_min_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q))

#define V_MASK __m256
#define V_IS_LESS(a, b) _mm256_cmp_ps(a, b, _CMP_LT_OQ)
#define V_IS_EQUAL(a, b) _mm256_cmp_ps(a, b, _CMP_EQ_OQ)
#define V_IS_UNORDERED(a, b) _mm256_cmp_ps(a, b, _CMP_UNORD_Q) /* either is NaN */
#define V_EITHER(a, b) _mm256_or_ps(a, b)
#define V_IS_NAN(v) _mm256_cmp_ps(v, v, _CMP_UNORD_Q)
#define V_ANY(mask) (_mm256_movemask_ps(mask) != 0)
#define V_SELECT(mask, yes, no) _mm256_blendv_ps(no, yes, mask)

/* 2^n for whole n in [-126, 127]. */
static inline VEC v_power(VEC n) {
    __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

/* v * 2^n for whole n in [-252, 254], rounded once: the power is applied in two halves, the first of which
 * keeps the result normal. */
static inline VEC v_scale(VEC v, VEC n) {
    VEC half = V_FLOOR(V_MUL(n, V_SPLAT(0.5f)));
    return V_MUL(V_MUL(v, v_power(half)), v_power(V_SUB(n, half)));
}

/* *mantissa in [1, 2) and the exponent with v = *mantissa * 2^exponent, for finite positive v. Values below
 * the normal ones are made larger first. */
static inline VEC v_split(VEC v, VEC *mantissa) {
    VEC tiny = V_IS_LESS(v, V_SPLAT(0x1p-126f));
    v = V_SELECT(tiny, V_MUL(v, V_SPLAT(0x1p23f)), v);
    __m256i bits = _mm256_castps_si256(v);
    VEC exponent = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127)));
    bits = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff));
    *mantissa = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(127 << 23)));
    return V_SUB(exponent, _mm256_and_ps(tiny, V_SPLAT(23.0f)));
}

/* table[whole], whole in [0, 15]; NaN finds any entry. */
static inline VEC v_lookup(const float *table, VEC whole) {
    __m256i index = _mm256_cvttps_epi32(whole);
    VEC low = _mm256_permutevar8x32_ps(V_LOAD(table), index);
    VEC high = _mm256_permutevar8x32_ps(V_LOAD(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

/* LANES bytes as whole numbers; their lower or upper 4 bits; such as float32. */
#define V_CODES(p) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define V_LOW_HALF(codes) _mm256_and_si256(codes, _mm256_set1_epi32(15))
#define V_HIGH_HALF(codes) _mm256_srli_epi32(codes, 4)
#define V_NUMBERS(codes) _mm256_cvtepi32_ps(codes)

static inline float v_sum(VEC v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* Of lanes that are not NaN. */
static inline float v_largest(VEC v) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

static inline float v_smallest(VEC v) {
    return -v_largest(V_NEGATE(v));
}

/* Lane i: element at[i] - low, in [0, LANES), of a vector; only the first `count` are for use. */
static inline VEC v_pick_near(VEC v, const int32_t *at, int32_t low, int32_t count) {
    __m256i index = _mm256_maskload_epi32(at, V_PART_MASK(count));
    return _mm256_permutevar8x32_ps(v, _mm256_sub_epi32(index, _mm256_set1_epi32(low)));
}

/* The same of two vectors that lie behind one another: at[i] - low in [0, 2 * LANES). */
static inline VEC v_pick_twice(VEC v, VEC next, const int32_t *at, int32_t low, int32_t count) {
    __m256i index = _mm256_maskload_epi32(at, V_PART_MASK(count));
    index = _mm256_sub_epi32(index, _mm256_set1_epi32(low));
    VEC near = _mm256_permutevar8x32_ps(v, index), far = _mm256_permutevar8x32_ps(next, index);
    return _mm256_blendv_ps(near, far, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

/* Of 2 * LANES elements a, b: those at even places, at odd ones. */
#define V_IN_ORDER(v) _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8))
#define V_EVEN(a, b) V_IN_ORDER(_mm256_shuffle_ps(a, b, 0x88))
#define V_ODD(a, b) V_IN_ORDER(_mm256_shuffle_ps(a, b, 0xdd))

/* Lane i: x[at[i]] for i < count, else 0. */
static inline VEC v_pick(const float *x, const int32_t *at, int32_t count) {
    __m256i mask = V_PART_MASK(count), index = _mm256_maskload_epi32(at, mask);
    return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), x, index, _mm256_castsi256_ps(mask), 4);
}

#endif
