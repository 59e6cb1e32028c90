/* What quads_neon.h and quads_neondot.h have in common; rows are signed, as columns are. */
#ifndef WE_KERNELS_SIMD_QUADS_ARM_H
#define WE_KERNELS_SIMD_QUADS_ARM_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define LANES 4
#define SUMS int32x4_t
#define FLOATS float32x4_t
#define RIGHT int8x16_t

#define Q_COLUMNS(p) vld1q_s8(p)
#define Q_INTS(p) vld1q_s32(p)
#define Q_FLOATS(p) vld1q_f32(p)
#define Q_ALL(value) vdupq_n_f32(value)
#define Q_ALL_INTS(value) vdupq_n_s32(value)
#define Q_MUL(a, b) vmulq_f32(a, b)
#define Q_ADD(a, b) vaddq_f32(a, b)
#define Q_MOST(a, b) vmaxq_f32(a, b)
#define Q_LEAST(a, b) vminq_f32(a, b)
#define Q_ADD_INTS(a, b) vaddq_s32(a, b)
#define Q_SUB_INTS(a, b) vsubq_s32(a, b)
#define Q_TO_FLOATS(v) vcvtq_f32_s32(v)
/* To the nearest integer, ties to even. */
#define Q_ROUND(v) vcvtnq_s32_f32(v)

/* The low bytes of the lanes. */
static inline void q_store_bytes(uint8_t *p, int count, int32x4_t v) {
    const int16x4_t words = vmovn_s32(v);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    const uint32_t all = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
    memcpy(p, &all, (size_t)count);
}
#define Q_STORE_BYTES(p, count, v) q_store_bytes(p, (int)(count), v)

static inline int32x4_t q_bytes(const uint8_t *p, int count, uint8_t flip) {
    uint32_t all = 0;
    memcpy(&all, p, (size_t)count);
    const uint8x8_t bytes = veor_u8(vreinterpret_u8_u32(vdup_n_u32(all)), vdup_n_u8(flip));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}
#define Q_BYTES(p, count, flip) q_bytes(p, (int)(count), flip)

#endif
