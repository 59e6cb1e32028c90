/* Vectors of NEON for simd/byte_tile.h. A product of two bytes fits 16 bits and a sum of two need not, so
 * products are added by pairs to sums of 32 bits: two for each column, which come together in the end. */
#ifndef WE_KERNELS_SIMD_QUADS_NEON_H
#define WE_KERNELS_SIMD_QUADS_NEON_H

#include "kernels/simd/quads_arm.h"

#define LEFT int8x16_t
#define RUNNING q_halves

typedef struct q_halves {
    int32x4_t low, high; /* of the first two columns, of the others */
} q_halves;

static inline int8x16_t q_splat(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
static inline q_halves q_start(const int32_t *p) {
    const int32x4_t start = vld1q_s32(p), none = vdupq_n_s32(0);
    return (q_halves){vzip1q_s32(start, none), vzip2q_s32(start, none)};
}
static inline q_halves q_dot(q_halves sums, int8x16_t left, int8x16_t right) {
    const int16x8_t low = vmull_s8(vget_low_s8(left), vget_low_s8(right)), high = vmull_high_s8(left, right);
    return (q_halves){vpadalq_s16(sums.low, low), vpadalq_s16(sums.high, high)};
}
#define Q_SPLAT(p) q_splat(p)
#define Q_START(p) q_start(p)
#define Q_DOT(sums, left, right) q_dot(sums, left, right)
#define Q_KEEP(p, sums) vst1q_s32(p, vpaddq_s32((sums).low, (sums).high))

#endif
