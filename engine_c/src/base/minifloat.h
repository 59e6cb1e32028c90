/* Floats of one byte or less: 8-bit kinds and the 4-bit F4_E2M1, one element per byte. */
#ifndef WE_BASE_MINIFLOAT_H
#define WE_BASE_MINIFLOAT_H

#include <stdbool.h>

#include <walle/engine.h>

bool we_is_minifloat(we_dtype dtype);

/* The value of an element; exact. `dtype` must be a minifloat. */
float we_minifloat_decode(we_dtype dtype, uint8_t bits);

/* The nearest element, ties to even. What lies past the largest value becomes that value, or with `overflow`
 * what the format has for it: infinity, else NaN, else the largest. Not for F8_E8M0. */
uint8_t we_minifloat_encode(we_dtype dtype, float value, bool overflow);

/* F8_E8M0 holds powers of 2 without sign. direction: -1 rounds the magnitude down, 1 up, 0 to the nearest.
 * With `overflow`, rounding past 2^127 gives NaN. */
uint8_t we_e8m0_encode(float value, int direction, bool overflow);

#endif
