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
/* MAXPS returns its second operand when either is NaN or both are zero. */
#define V_KEEP_POSITIVE(v) _mm256_max_ps(_mm256_setzero_ps(), v)

/* The first `count` < LANES lanes; the others read as zero and are not written. */
#define V_PART_MASK(count)                                                                                   \
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define V_LOAD_PART(p, count) _mm256_maskload_ps(p, V_PART_MASK(count))
#define V_STORE_PART(p, count, v) _mm256_maskstore_ps(p, V_PART_MASK(count), v)

/* MINPS likewise, so NaN stays. */
#define V_CAP(v, most) _mm256_min_ps(_mm256_set1_ps(most), v)
/* The larger, NaN where either is: MAXPS hands on a NaN of its second operand only. */
#define V_LARGER(a, b) _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q))

#endif
