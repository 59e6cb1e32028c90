/* 64-bit wrappers over AVX-512 for sort_avx512.h, 8 lanes. */
#ifndef WE_KERNELS_SIMD_SORT_I64_AVX512_H
#define WE_KERNELS_SIMD_SORT_I64_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#define LANES 8
#define VEC __m512i
#define V_MASK __mmask8
#define V_LOAD(p) _mm512_loadu_si512(p)
#define V_STORE(p, v) _mm512_storeu_si512(p, v)
#define V_SPLAT(x) _mm512_set1_epi64(x)
#define V_MIN(a, b) _mm512_min_epi64(a, b)
#define V_MAX(a, b) _mm512_max_epi64(a, b)
#define V_XOR(a, b) _mm512_xor_si512(a, b)
#define V_TEST(a, b) _mm512_test_epi64_mask(a, b)
#define V_SELECT(mask, yes, no) _mm512_mask_mov_epi64(no, mask, yes)
#define V_PERMUTE(places, v) _mm512_permutexvar_epi64(places, v)
#define V_NOT_ABOVE(a, b) _mm512_cmple_epi64_mask(a, b)
#define V_IOTA() _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)
/* The lanes of the mask, `count` of them, then the others. */
#define V_APART(v, mask, count)                                                                              \
    _mm512_mask_expand_epi64(_mm512_maskz_compress_epi64(mask, v), (V_MASK)(0xffu << (count)),               \
                             _mm512_maskz_compress_epi64((V_MASK) ~(mask), v))
/* The first `count` <= LANES lanes; the others read as the largest key and are not written. */
#define V_FIRST(count) ((V_MASK)(((uint64_t)1 << (count)) - 1))
#define V_LOAD_FIRST(p, count) _mm512_mask_loadu_epi64(V_SPLAT(MOST), V_FIRST(count), p)
#define V_STORE_FIRST(p, count, v) _mm512_mask_storeu_epi64(p, V_FIRST(count), v)

#endif
