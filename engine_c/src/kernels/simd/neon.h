/* float32 wrappers over Advanced SIMD of AArch64, 4 lanes. */
#ifndef WE_KERNELS_SIMD_NEON_H
#define WE_KERNELS_SIMD_NEON_H

#include <arm_neon.h>
#include <string.h>

#define LANES 4
#define VEC float32x4_t
#define V_ZERO() vdupq_n_f32(0)
#define V_LOAD(p) vld1q_f32(p)
#define V_STORE(p, v) vst1q_f32(p, v)
#define V_SPLAT(f) vdupq_n_f32(f)
#define V_FMA(a, b, c) vfmaq_f32(c, a, b)
/* One lane in all; as an operand of V_FMA it costs nothing. */
#define V_SPLAT_LANE(v, lane) V_SPLAT((v)[lane])
#define V_ADD(a, b) vaddq_f32(a, b)
#define V_SUB(a, b) vsubq_f32(a, b)
#define V_MUL(a, b) vmulq_f32(a, b)
#define V_DIV(a, b) vdivq_f32(a, b)
#define V_FNMA(a, b, c) vfmsq_f32(c, a, b) /* c - a * b */
#define V_SQRT(v) vsqrtq_f32(v)
/* The second operand where either is NaN. */
#define V_MAX(a, b) v_chosen(vcgtq_f32(a, b), a, b)
#define V_MIN(a, b) v_chosen(vcltq_f32(a, b), a, b)
#define V_NEAREST(v) vrndnq_f32(v)
#define V_FLOOR(v) vrndmq_f32(v)
#define V_CEIL(v) vrndpq_f32(v)
#define V_NEGATE(v) vnegq_f32(v)
#define V_ABS(v) vabsq_f32(v)
/* `size`, which is not negative, with the sign of v. */
#define V_SIGNED(size, v) vbslq_f32(vdupq_n_u32(0x80000000u), v, size)
/* NaN stays: FMAX and FMIN keep it. Of zeros they have +0 the larger. */
#define V_RAISE(v, least) vmaxq_f32(V_SPLAT(least), v)
#define V_CAP(v, most) vminq_f32(V_SPLAT(most), v)
#define V_KEEP_POSITIVE(v) V_MAX(V_ZERO(), v)

/* The first `count` < LANES lanes; the others read as zero and are not written. */
#define V_LOAD_PART(p, count) v_load_part(p, (int)(count))
#define V_STORE_PART(p, count, v) v_store_part(p, (int)(count), v)

/* The same for count <= LANES. */
#define V_LOAD_UP_TO(p, count) ((count) == LANES ? V_LOAD(p) : V_LOAD_PART(p, count))
#define V_STORE_UP_TO(p, count, v)                                                                           \
    do {                                                                                                     \
        if ((count) == LANES)                                                                                \
            V_STORE(p, v);                                                                                   \
        else                                                                                                 \
            V_STORE_PART(p, count, v);                                                                       \
    } while (0)

/* The larger, NaN where either is. */
#define V_LARGER(a, b) vmaxq_f32(a, b)
#define V_SMALLER(a, b) vminq_f32(a, b)

#define V_MASK uint32x4_t
#define V_IS_LESS(a, b) vcltq_f32(a, b)
#define V_IS_EQUAL(a, b) vceqq_f32(a, b)
#define V_IS_UNORDERED(a, b) vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b))) /* either is NaN */
#define V_EITHER(a, b) vorrq_u32(a, b)
#define V_IS_NAN(v) vmvnq_u32(vceqq_f32(v, v))
#define V_ANY(mask) (vmaxvq_u32(mask) != 0)
#define V_SELECT(mask, yes, no) vbslq_f32(mask, yes, no)

static inline VEC v_chosen(V_MASK mask, VEC yes, VEC no) {
    return vbslq_f32(mask, yes, no);
}

static inline VEC v_load_part(const float *p, int count) {
    float32x2_t low = vdup_n_f32(0), high = low;
    if (count >= 2) {
        low = vld1_f32(p);
        high = count > 2 ? vld1_lane_f32(p + 2, high, 0) : high;
    } else if (count == 1) {
        low = vld1_lane_f32(p, low, 0);
    }
    return vcombine_f32(low, high);
}

static inline void v_store_part(float *p, int count, VEC v) {
    if (count >= 2) {
        vst1_f32(p, vget_low_f32(v));
        if (count > 2)
            vst1q_lane_f32(p + 2, v, 2);
    } else if (count == 1) {
        vst1q_lane_f32(p, v, 0);
    }
}

/* 2^n for whole n in [-126, 127]. */
static inline VEC v_power(VEC n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}

/* v * 2^n for whole n in [-252, 254], rounded once: the power is applied in two halves, the first of which
 * keeps the result normal. */
static inline VEC v_scale(VEC v, VEC n) {
    VEC half = V_FLOOR(V_MUL(n, V_SPLAT(0.5f)));
    return V_MUL(V_MUL(v, v_power(half)), v_power(V_SUB(n, half)));
}

/* *mantissa in [1, 2) and the exponent with v = *mantissa * 2^exponent, for finite positive v. Values below
 * the normal ones are made larger first. */
static inline VEC v_split(VEC v, VEC *mantissa) {
    V_MASK tiny = V_IS_LESS(v, V_SPLAT(0x1p-126f));
    int32x4_t bits = vreinterpretq_s32_f32(V_SELECT(tiny, V_MUL(v, V_SPLAT(0x1p23f)), v));
    VEC exponent = vcvtq_f32_s32(vsubq_s32(vshrq_n_s32(bits, 23), vdupq_n_s32(127)));
    bits = vorrq_s32(vandq_s32(bits, vdupq_n_s32(0x7fffff)), vdupq_n_s32(127 << 23));
    *mantissa = vreinterpretq_f32_s32(bits);
    return V_SELECT(tiny, V_SUB(exponent, V_SPLAT(23.0f)), exponent);
}

/* Of each of these elements of 4 bytes, counted in a table of bytes, where its bytes are. */
static inline uint8x16_t v_bytes_of(uint32x4_t index) {
    return vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x03020100), index, 0x04040404));
}

/* table[whole], whole in [0, 15]; NaN finds any entry. */
static inline VEC v_lookup(const float *table, VEC whole) {
    const uint8x16x4_t all = vld1q_u8_x4((const uint8_t *)table);
    return vreinterpretq_f32_u8(vqtbl4q_u8(all, v_bytes_of(vcvtq_u32_f32(whole))));
}

/* LANES bytes as whole numbers; their lower or upper 4 bits; such as float32. */
static inline uint32x4_t v_codes(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
}
#define V_CODES(p) v_codes(p)
#define V_LOW_HALF(codes) vandq_u32(codes, vdupq_n_u32(15))
#define V_HIGH_HALF(codes) vshrq_n_u32(codes, 4)
#define V_NUMBERS(codes) vcvtq_f32_u32(codes)

static inline float v_sum(VEC v) {
    return vaddvq_f32(v);
}

/* Of lanes that are not NaN. */
static inline float v_largest(VEC v) {
    return vmaxvq_f32(v);
}

static inline float v_smallest(VEC v) {
    return vminvq_f32(v);
}

/* The first `count` of places, less `low`; the others are anything. */
static inline uint32x4_t v_places(const int32_t *at, int32_t low, int32_t count) {
    VEC loaded = V_LOAD_UP_TO((const float *)(const void *)at, count);
    return vsubq_u32(vreinterpretq_u32_f32(loaded), vdupq_n_u32((uint32_t)low));
}

/* Lane i: element at[i] - low, in [0, LANES), of a vector; only the first `count` are for use. */
static inline VEC v_pick_near(VEC v, const int32_t *at, int32_t low, int32_t count) {
    uint8x16_t bytes = v_bytes_of(v_places(at, low, count));
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), bytes));
}

/* The same of two vectors that lie behind one another: at[i] - low in [0, 2 * LANES). */
static inline VEC v_pick_twice(VEC v, VEC next, const int32_t *at, int32_t low, int32_t count) {
    const uint8x16x2_t both = {{vreinterpretq_u8_f32(v), vreinterpretq_u8_f32(next)}};
    return vreinterpretq_f32_u8(vqtbl2q_u8(both, v_bytes_of(v_places(at, low, count))));
}

/* Lane i: x[at[i]] for i < count, else 0. */
static inline VEC v_pick(const float *x, const int32_t *at, int32_t count) {
    float picked[LANES] = {0};
    for (int32_t i = 0; i < count; i++)
        picked[i] = x[at[i]];
    return V_LOAD(picked);
}

#endif
