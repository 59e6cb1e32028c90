/* Words of two bfloat16 over AVX-512 BF16: what avx512.h has, with a dot product of words as multiply-add. */
#ifndef WE_KERNELS_SIMD_AVX512BF16_H
#define WE_KERNELS_SIMD_AVX512BF16_H

#include "kernels/simd/avx512.h"

/* c + a.low * b.low + a.high * b.high per lane; denormals, of operands and results, are zeros. */
#undef V_FMA
#define V_FMA(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))

#endif
