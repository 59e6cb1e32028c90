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

float we_f16_to_f32(uint16_t bits);
uint16_t we_f32_to_f16(float value);  /* round to nearest even; NaN stays NaN */
uint16_t we_f32_to_bf16(float value); /* round to nearest even; NaN stays NaN */

/* The same as conversion instructions have it: a denormal becomes a zero of its sign. Without branches, for
 * loops that are compiled to vectors. */
static inline uint16_t we_f32_to_bf16_part(float value) {
    uint32_t wide, magnitude;
    memcpy(&wide, &value, sizeof wide);
    magnitude = wide & 0x7FFFFFFF;
    uint32_t rounded = magnitude > 0x7F800000 ? wide | 0x400000 : wide + 0x7FFF + (wide >> 16 & 1);
    return (uint16_t)((magnitude < 0x00800000 ? wide & 0x80000000 : rounded) >> 16);
}

#endif
