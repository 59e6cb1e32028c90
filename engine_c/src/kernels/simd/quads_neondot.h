/* Vectors of NEON with dot products for simd/byte_tile.h. */
#ifndef WE_KERNELS_SIMD_QUADS_NEONDOT_H
#define WE_KERNELS_SIMD_QUADS_NEONDOT_H

#include "kernels/simd/quads_arm.h"

#define LEFT int8x8_t

/* In the lowest lane, which products take for all: a load that spreads takes the time of one more. */
static inline int8x8_t q_splat(const uint8_t *p) {
    float four;
    memcpy(&four, p, sizeof four);
    return vreinterpret_s8_f32((float32x2_t){four, 0});
}
#define Q_SPLAT(p) q_splat(p)
#define Q_DOT(sums, left, right) vdotq_lane_s32(sums, right, left, 0)
#define Q_KEEP(p, sums) vst1q_s32(p, sums)

#endif
