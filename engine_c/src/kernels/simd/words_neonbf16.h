/* Words of two bfloat16 over neonbf16.h: a dot product of words as multiply-add, and products of blocks. Both
 * round each sum to odd, so up to a unit in the last place away, and take denormals for zeros (source: Arm
 * ARM, BFDOT and BFMMLA without FEAT_EBF16). */
#ifndef WE_KERNELS_SIMD_WORDS_NEONBF16_H
#define WE_KERNELS_SIMD_WORDS_NEONBF16_H

#include "kernels/simd/neonbf16.h"

/* c + a.low * b.low + a.high * b.high per lane. */
#undef V_FMA
#define V_FMA(a, b, c) vbfdotq_f32(c, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b))

/* The same of lane `i`, a constant, of the words at p. */
#define V_FMA_LANE(p, i, b, c) v_fma_lane(V_LOAD(p), i, b, c)

/* See matmul_blocks.h. */
#define V_FMA_BLOCK(a, b, c) v_fma_block(a, b, c)
#define V_LOAD_HALVES(low, high) vcombine_f32(vld1_f32(low), vld1_f32(high))
#define V_LOW_HALVES(a, b)                                                                                   \
    vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)))
#define V_HIGH_HALVES(a, b)                                                                                  \
    vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)))

/* Both as text, since GCC 12 gives an intrinsic's result a register of its own and moves it back (product of
 * 6 x 16: 32 to 27 cycles for 48 of them on a Neoverse N2, by LLVM's model). */
static inline __attribute__((always_inline)) VEC v_fma_lane(VEC words, const int lane, VEC b, VEC c) {
    __asm__("bfdot %0.4s, %1.8h, %2.2h[%3]" : "+w"(c) : "w"(b), "w"(words), "i"(lane));
    return c;
}

static inline VEC v_fma_block(VEC a, VEC b, VEC c) {
    __asm__("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(c) : "w"(a), "w"(b));
    return c;
}

/* The words of up to 2 * LANES elements; zeros behind the last. Denormals stay, as the products drop them. */
static inline void v_round_words(const float *x, int64_t left, float *words) {
    int count = left < 2 * LANES ? (int)left : 2 * LANES;
    VEC low = V_LOAD_UP_TO(x, v_at_most_lanes(count));
    VEC high = V_LOAD_UP_TO(x + LANES, v_behind_lanes(count));
    V_STORE(words, vreinterpretq_f32_u16(v_round_both(low, high)));
}

#endif
