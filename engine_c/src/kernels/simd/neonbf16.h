/* Images of bfloat16 over neon.h, and words of two. What is stored is rounded as a part (see we_split): the
 * instruction keeps denormals, which BFDOT and BFMMLA, as the contract has it, take for zeros. */
#ifndef WE_KERNELS_SIMD_NEONBF16_H
#define WE_KERNELS_SIMD_NEONBF16_H

#include <float.h>
#include <stdint.h>

#include "kernels/simd/neon.h"

/* What lies in an image (see image.h). */
#define ELEMENT uint16_t
#define V_LOAD_IMAGE(p, count) v_load_narrow(p, (int)(count))
#define V_STORE_IMAGE(p, count, v) v_store_narrow(p, (int)(count), v)
/* `count` <= LANES numbers that lie as bfloat16. */
#define V_LOAD_NARROW V_LOAD_IMAGE
#define V_STORE_NARROW V_STORE_IMAGE

/* Denormals become zeros of their sign. */
static inline VEC v_flush(VEC v) {
    uint32x4_t denormal = vcaltq_f32(v, V_SPLAT(FLT_MIN));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vshrq_n_u32(denormal, 1)));
}

static inline uint16x4_t v_narrow(VEC v) {
    return vreinterpret_u16_bf16(vcvt_bf16_f32(v_flush(v)));
}

/* Of 8 numbers, in order. */
static inline uint16x8_t v_narrow_both(VEC low, VEC high) {
    return vreinterpretq_u16_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(v_flush(low)), v_flush(high)));
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

/* The first `count` <= 2 * LANES numbers, those at even places and those at odd ones: of neighbours that
 * share a word, a shift and a mask (see narrow.h). */
static inline void v_load_pairs(const uint16_t *from, int count, VEC *even, VEC *odd) {
    uint32x4_t words;
    if (count == 2 * LANES) {
        words = vreinterpretq_u32_u16(vld1q_u16(from));
    } else {
        uint16_t some[2 * LANES] = {0};
        for (int i = 0; i < count; i++)
            some[i] = from[i];
        words = vreinterpretq_u32_u16(vld1q_u16(some));
    }
    *even = vreinterpretq_f32_u32(vshlq_n_u32(words, 16));
    *odd = vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff0000u)));
}

static inline void v_store_pairs(uint16_t *to, int count, VEC even, VEC odd) {
    uint16x4x2_t both = vzip_u16(v_narrow(even), v_narrow(odd));
    if (count == 2 * LANES) {
        vst1q_u16(to, vcombine_u16(both.val[0], both.val[1]));
        return;
    }
    v_store_halves(to, v_at_most_lanes(count), both.val[0]);
    v_store_halves(to + LANES, v_behind_lanes(count), both.val[1]);
}

/* The same of float32. */
static inline void v_load_apart(const float *from, int count, VEC *even, VEC *odd) {
    VEC low = V_LOAD_UP_TO(from, v_at_most_lanes(count));
    VEC high = V_LOAD_UP_TO(from + LANES, v_behind_lanes(count));
    *even = vuzp1q_f32(low, high);
    *odd = vuzp2q_f32(low, high);
}

#endif
