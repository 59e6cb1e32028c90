/* Halves to and from float32 by instructions. Include after the template, which declares what it needs. */
#ifndef WE_KERNELS_SIMD_CAST_NEON_H
#define WE_KERNELS_SIMD_CAST_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#include "base/dtype.h"

/* FCVTL and FCVTN are of the base architecture; compilers make vectors of the first alone. */
static inline void widen_halves(int64_t n, const uint16_t *x, float *y) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(x + i));
        vst1q_f32(y + i, vcvt_f32_f16(vget_low_f16(halves)));
        vst1q_f32(y + i + 4, vcvt_high_f32_f16(halves));
    }
    for (; i < n; i++)
        y[i] = we_f16_to_f32(x[i]);
}

static inline void narrow_to_halves(int64_t n, const float *x, uint16_t *y) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        float16x4_t low = vcvt_f16_f32(vld1q_f32(x + i));
        vst1q_u16(y + i, vreinterpretq_u16_f16(vcvt_high_f16_f32(low, vld1q_f32(x + i + 4))));
    }
    for (; i < n; i++)
        y[i] = we_f32_to_f16(x[i]);
}

#endif
