/* Words of two bfloat16 over neonbf16.h: a dot product of words as multiply-add, and products of blocks. Both
 * round each sum to odd, so up to a unit in the last place away, and take denormals for zeros (source: Arm
 * ARM, BFDOT and BFMMLA without FEAT_EBF16). */
#ifndef WE_KERNELS_SIMD_WORDS_NEONBF16_H
#define WE_KERNELS_SIMD_WORDS_NEONBF16_H

#include "kernels/simd/neonbf16.h"

/* c + a.low * b.low + a.high * b.high per lane. */
#undef V_FMA
#define V_FMA(a, b, c) vbfdotq_f32(c, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b))

/* See matmul_blocks.h. */
#define V_FMA_BLOCK(a, b, c) vbfmmlaq_f32(c, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b))
#define V_LOAD_ROWS(first, second) vcombine_f32(vld1_f32(first), vld1_f32(second))
#define V_LOAD_ROW(row) vcombine_f32(vld1_f32(row), vdup_n_f32(0))
#define V_LOW_HALVES(a, b) vcombine_f32(vget_low_f32(a), vget_low_f32(b))
#define V_HIGH_HALVES(a, b) vcombine_f32(vget_high_f32(a), vget_high_f32(b))

/* The words of up to 2 * LANES elements; zeros behind the last. */
static inline void v_round_words(const float *x, int64_t left, float *words) {
    int count = left < 2 * LANES ? (int)left : 2 * LANES;
    VEC low = V_LOAD_UP_TO(x, v_at_most_lanes(count));
    VEC high = V_LOAD_UP_TO(x + LANES, v_behind_lanes(count));
    V_STORE(words, vreinterpretq_f32_u16(v_narrow_both(low, high)));
}

#endif
