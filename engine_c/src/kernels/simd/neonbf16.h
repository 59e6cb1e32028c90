/* Images of bfloat16 over neon.h, and words of two. What is stored is rounded as a part (see we_split): the
 * instruction keeps denormals, which BFDOT and BFMMLA, as the contract has it, take for zeros. */
#ifndef WE_KERNELS_SIMD_NEONBF16_H
#define WE_KERNELS_SIMD_NEONBF16_H

#include <stdint.h>

#include "kernels/simd/neon.h"

/* What lies in an image (see image.h). */
#define ELEMENT uint16_t
#define V_LOAD_IMAGE(p, count) v_load_narrow(p, (int)(count))
#define V_STORE_IMAGE(p, count, v) v_store_narrow(p, (int)(count), v)
/* `count` <= LANES numbers that lie as bfloat16. */
#define V_LOAD_NARROW V_LOAD_IMAGE
#define V_STORE_NARROW V_STORE_IMAGE

/* Denormals become zeros of their sign: what has no exponent keeps no other bit. */
static inline VEC v_flush(VEC v) {
    const uint32x4_t sign = vdupq_n_u32(0x80000000u), exponent = vdupq_n_u32(0x7f800000u);
    uint32x4_t bits = vreinterpretq_u32_f32(v);
    return vreinterpretq_f32_u32(vandq_u32(bits, vorrq_u32(vtstq_u32(bits, exponent), sign)));
}

static inline uint16x4_t v_narrow(VEC v) {
    return vreinterpret_u16_bf16(vcvt_bf16_f32(v_flush(v)));
}

/* Of 8 numbers, in order, as the instruction has them. */
static inline uint16x8_t v_round_both(VEC low, VEC high) {
    return vreinterpretq_u16_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high));
}

static inline uint16x8_t v_narrow_both(VEC low, VEC high) {
    return v_round_both(v_flush(low), v_flush(high));
}

static inline VEC v_wide(uint16x4_t halves) {
    return vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
}

/* The first `count` <= LANES; the others read as zero. */
static inline VEC v_load_narrow(const uint16_t *from, int count) {
    uint16x4_t halves = vdup_n_u16(0);
    if (count == LANES)
        return v_wide(vld1_u16(from));
    if (count > 0)
        halves = vld1_lane_u16(from, halves, 0);
    if (count > 1)
        halves = vld1_lane_u16(from + 1, halves, 1);
    if (count > 2)
        halves = vld1_lane_u16(from + 2, halves, 2);
    return v_wide(halves);
}

static inline void v_store_halves(uint16_t *to, int count, uint16x4_t halves) {
    if (count == LANES) {
        vst1_u16(to, halves);
        return;
    }
    if (count > 0)
        vst1_lane_u16(to, halves, 0);
    if (count > 1)
        vst1_lane_u16(to + 1, halves, 1);
    if (count > 2)
        vst1_lane_u16(to + 2, halves, 2);
}

static inline void v_store_narrow(uint16_t *to, int count, VEC v) {
    v_store_halves(to, count, v_narrow(v));
}

static inline int v_at_most_lanes(int count) {
    return count < LANES ? count : LANES;
}

static inline int v_behind_lanes(int count) {
    return count > LANES ? count - LANES : 0;
}

#endif
