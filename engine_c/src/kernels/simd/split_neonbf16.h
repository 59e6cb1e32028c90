/* Splitting by the conversion instruction, 8 elements at a time. */
#ifndef WE_KERNELS_SIMD_SPLIT_NEONBF16_H
#define WE_KERNELS_SIMD_SPLIT_NEONBF16_H

#include "kernels/simd/neonbf16.h"

#define INLINE static inline __attribute__((always_inline))

/* The first `count` of a vector, at most. */
INLINE VEC load(const float *x, int64_t count) {
    return count >= LANES ? V_LOAD(x) : V_LOAD_PART(x, count);
}

INLINE void store(float *to, int64_t count, uint32x4_t words) {
    VEC v = vreinterpretq_f32_u32(words);
    if (count >= LANES)
        V_STORE(to, v);
    else
        V_STORE_PART(to, count, v);
}

INLINE uint32x4_t larger(uint32x4_t largest, VEC x) {
    return vmaxq_u32(largest, vreinterpretq_u32_f32(V_ABS(x)));
}

/* Of 4 numbers; they become what is left. Bits in the low halves. */
INLINE uint32x4_t take_part(VEC *x) {
    uint32x4_t part = vmovl_u16(v_narrow(*x));
    *x = V_SUB(*x, vreinterpretq_f32_u32(vshlq_n_u32(part, 16)));
    return part;
}

INLINE void store_parts(int32_t parts, VEC even, VEC odd, float *to, int64_t part, int64_t count) {
    for (int32_t p = 0; p < parts; p++) {
        uint32x4_t first = take_part(&even);
        store(to + p * part, count, vsliq_n_u32(first, take_part(&odd), 16));
    }
}

/* The first part of 8 neighbours goes the short way. */
INLINE uint32_t split(int32_t parts, int64_t n, const float *x, int64_t words, float *to, int64_t part) {
    uint32x4_t largest = vdupq_n_u32(0);
    for (int64_t w = 0; w < words; w += LANES) {
        VEC low = load(x + 2 * w, n - 2 * w), high = load(x + 2 * w + LANES, n - 2 * w - LANES);
        largest = larger(larger(largest, low), high);
        if (parts == 1)
            store(to + w, words - w, vreinterpretq_u32_u16(v_narrow_both(low, high)));
        else
            store_parts(parts, vuzp1q_f32(low, high), vuzp2q_f32(low, high), to + w, part, words - w);
    }
    return vmaxvq_u32(largest);
}

INLINE uint32_t pair(int32_t parts, int64_t n, const float *even, const float *odd, float *to, int64_t part) {
    uint32x4_t largest = vdupq_n_u32(0);
    for (int64_t i = 0; i < n; i += LANES) {
        VEC low = load(even + i, n - i), high = load(odd + i, n - i);
        largest = larger(larger(largest, low), high);
        store_parts(parts, low, high, to + i, part, n - i);
    }
    return vmaxvq_u32(largest);
}

#endif
