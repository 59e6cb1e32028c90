/* Squares of 4 x 4 elements of 4 bytes turned in registers: pairs, then halves change places. */
#ifndef WE_KERNELS_SIMD_SQUARE_NEON_H
#define WE_KERNELS_SIMD_SQUARE_NEON_H

#include <arm_neon.h>
#include <stdint.h>

enum {
    SIDE = 4,
};

#define HALVES(of, half)                                                                                     \
    vreinterpretq_u32_u64(half(vreinterpretq_u64_u32(of[0]), vreinterpretq_u64_u32(of[1])))

static inline void turn_square(const uint32_t *in, int64_t in_row, uint32_t *out, int64_t out_row) {
    uint32x4_t r[SIDE];
    for (int j = 0; j < SIDE; j++)
        r[j] = vld1q_u32(in + j * in_row);
    const uint32x4_t even[2] = {vtrn1q_u32(r[0], r[1]), vtrn1q_u32(r[2], r[3])};
    const uint32x4_t odd[2] = {vtrn2q_u32(r[0], r[1]), vtrn2q_u32(r[2], r[3])};
    vst1q_u32(out, HALVES(even, vtrn1q_u64));
    vst1q_u32(out + out_row, HALVES(odd, vtrn1q_u64));
    vst1q_u32(out + 2 * out_row, HALVES(even, vtrn2q_u64));
    vst1q_u32(out + 3 * out_row, HALVES(odd, vtrn2q_u64));
}

#undef HALVES

#endif
