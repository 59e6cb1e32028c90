/* float32 wrappers over AVX-512F, 16 lanes. */
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
/* MAXPS returns its second operand when either is NaN or both are zero. */
#define V_KEEP_POSITIVE(v) _mm512_max_ps(_mm512_setzero_ps(), v)

/* The first `count` < LANES lanes; the others read as zero and are not written. */
#define V_LOAD_PART(p, count) _mm512_maskz_loadu_ps((__mmask16)((1u << (count)) - 1), p)
#define V_STORE_PART(p, count, v) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (count)) - 1), v)

/* MINPS likewise, so NaN stays. */
#define V_CAP(v, most) _mm512_min_ps(_mm512_set1_ps(most), v)
/* The larger, NaN where either is: MAXPS hands on a NaN of its second operand only. */
#define V_LARGER(a, b) _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a)

#endif
