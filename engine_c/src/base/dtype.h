/* Element types, sizes that cannot overflow, and conversion of half-width floats. */
#ifndef WE_BASE_DTYPE_H
#define WE_BASE_DTYPE_H

#include <stdbool.h>
#include <string.h>

#include <walle/engine.h>

char we_dtype_kind(we_dtype dtype); /* 'f', 'i', 'u', 'b'; 0 for an unknown value */

/* Elements of a shape; false if a dim is negative, the rank illegal, or the byte size passes 2^46. */
bool we_shape_count(int32_t rank, const int64_t *dims, we_dtype dtype, int64_t *count);

static inline float we_bf16_to_f32(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* The other conversions, and this, have no branches, for loops that are compiled to vectors. NaN stays one:
 * the first bit of its fraction is set, the others stay as far as there is room, as conversion instructions
 * have it. */
static inline float we_f16_to_f32(uint16_t bits) {
    const float up = 0x1p112f; /* what the exponents differ by; denormals come out exact too */
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, magnitude = (uint32_t)(bits & 0x7FFF) << 13, wide;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= up;
    memcpy(&wide, &value, sizeof wide);
    uint32_t quiet = magnitude > 0x0F800000 ? 0x400000 : 0;
    wide = magnitude >= 0x0F800000 ? magnitude | 0x7F800000 | quiet : wide;
    wide |= sign;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest, ties to even. */
static inline uint16_t we_f32_to_f16(float value) {
    uint32_t wide, rounded;
    memcpy(&wide, &value, sizeof wide);
    uint32_t sign = wide >> 16 & 0x8000, magnitude = wide & 0x7FFFFFFF;
    float small; /* below 2^-14: the addition rounds to a multiple of 2^-24 */
    memcpy(&small, &magnitude, sizeof small);
    small += 0.5f;
    memcpy(&rounded, &small, sizeof rounded);
    uint32_t denormal = rounded - 0x3F000000;
    uint32_t normal = (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13;
    uint32_t finite = magnitude < 0x38800000 ? denormal : normal;
    uint32_t half = magnitude >= 0x477FF000 ? 0x7C00 : finite; /* from 65520 on */
    uint32_t nan = 0x7E00 | (magnitude >> 13 & 0x3FF);
    return (uint16_t)(sign | (magnitude > 0x7F800000 ? nan : half));
}

static inline uint16_t we_f32_to_bf16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    uint32_t rounded = wide + 0x7FFF + (wide >> 16 & 1);
    return (uint16_t)(((wide & 0x7FFFFFFF) > 0x7F800000 ? wide | 0x400000 : rounded) >> 16);
}

/* The same, but a denormal becomes a zero of its sign, as instructions that multiply have it. */
static inline uint16_t we_f32_to_bf16_part(float value) {
    uint32_t wide, magnitude;
    memcpy(&wide, &value, sizeof wide);
    magnitude = wide & 0x7FFFFFFF;
    uint32_t rounded = magnitude > 0x7F800000 ? wide | 0x400000 : wide + 0x7FFF + (wide >> 16 & 1);
    return (uint16_t)((magnitude < 0x00800000 ? wide & 0x80000000 : rounded) >> 16);
}

#endif
