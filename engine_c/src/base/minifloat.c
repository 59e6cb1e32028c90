#include "base/minifloat.h"

#include <math.h>
#include <string.h>

typedef enum specials {
    IEEE,                 /* the highest exponent holds infinity and NaN */
    FINITE,               /* no infinity; NaN where exponent and fraction are all ones */
    FINITE_UNSIGNED_ZERO, /* no infinity; NaN has the code of -0 */
    NO_SPECIALS,          /* every code is a number */
} specials;

typedef struct format {
    int exponent, fraction, bias; /* bits, bits, offset */
    specials specials;
} format;

/* Source: OCP 8-bit Floating Point Specification (E4M3, E5M2), OCP Microscaling Formats (E2M1), and the ONNX
 * page on float8 for the kinds with an unsigned zero. */
static const format FORMATS[WE_DTYPE_COUNT] = {
    [WE_F8_E4M3] = {4, 3, 7, FINITE},      [WE_F8_E4M3FNUZ] = {4, 3, 8, FINITE_UNSIGNED_ZERO},
    [WE_F8_E5M2] = {5, 2, 15, IEEE},       [WE_F8_E5M2FNUZ] = {5, 2, 16, FINITE_UNSIGNED_ZERO},
    [WE_F4_E2M1] = {2, 1, 1, NO_SPECIALS},
};

bool we_is_minifloat(we_dtype dtype) {
    return dtype == WE_F8_E8M0 || FORMATS[dtype].exponent != 0;
}

/* The code of the largest finite magnitude, and of NaN (without sign). */
static uint8_t largest_code(const format *f) {
    int all = (1 << (f->exponent + f->fraction)) - 1;
    if (f->specials == IEEE)
        return (uint8_t)(all - (1 << f->fraction));
    return (uint8_t)(f->specials == FINITE ? all - 1 : all);
}

static uint8_t nan_code(const format *f) {
    switch (f->specials) {
    case IEEE: /* the quiet one */
        return (uint8_t)(((1 << f->exponent) - 1) << f->fraction | 1 << (f->fraction - 1));
    case FINITE:
        return (uint8_t)((1 << (f->exponent + f->fraction)) - 1);
    case FINITE_UNSIGNED_ZERO:
        return (uint8_t)(1 << (f->exponent + f->fraction));
    case NO_SPECIALS: /* ONNX leaves this open; a zero marked by its sign, as common converters give */
        return (uint8_t)(1 << (f->exponent + f->fraction));
    }
    return 0;
}

static float magnitude_of(const format *f, int code) {
    int exponent = code >> f->fraction, fraction = code & ((1 << f->fraction) - 1);
    if (exponent == 0)
        return ldexpf((float)fraction, 1 - f->bias - f->fraction);
    return ldexpf((float)(fraction + (1 << f->fraction)), exponent - f->bias - f->fraction);
}

float we_minifloat_decode(we_dtype dtype, uint8_t bits) {
    if (dtype == WE_F8_E8M0)
        return bits == 0xFF ? NAN : ldexpf(1, bits - 127);
    const format *f = &FORMATS[dtype];
    int sign_bit = 1 << (f->exponent + f->fraction), code = bits & (sign_bit - 1);
    bool negative = bits & sign_bit;
    if (f->specials == FINITE_UNSIGNED_ZERO && negative && code == 0)
        return NAN;
    if (code > largest_code(f)) {
        bool infinite = f->specials == IEEE && code == largest_code(f) + 1;
        return copysignf(infinite ? INFINITY : NAN, negative ? -1.0f : 1.0f);
    }
    float magnitude = magnitude_of(f, code);
    return negative ? -magnitude : magnitude;
}

/* The code of a magnitude below 2^21 rounded to the format's grid; may pass the largest code. */
static int rounded_code(const format *f, float magnitude) {
    uint32_t bits, base;
    if (magnitude < ldexpf(1, 1 - f->bias)) { /* denormal: let float addition round to the grid's step */
        float anchor = ldexpf(1, 24 - f->bias - f->fraction), sum = anchor + magnitude;
        memcpy(&base, &anchor, sizeof base);
        memcpy(&bits, &sum, sizeof bits);
        return (int)(bits - base);
    }
    int surplus = 23 - f->fraction;
    memcpy(&bits, &magnitude, sizeof bits);
    bits += (1u << (surplus - 1)) - 1 + (bits >> surplus & 1); /* a carry moves on into the exponent */
    return (int)(bits >> surplus) - ((127 - f->bias) << f->fraction);
}

uint8_t we_minifloat_encode(we_dtype dtype, float value, bool overflow) {
    const format *f = &FORMATS[dtype];
    int sign = signbit(value) ? 1 << (f->exponent + f->fraction) : 0;
    if (value != value)
        return (uint8_t)(nan_code(f) | (f->specials == NO_SPECIALS ? 0 : sign));
    /* Every format's codes end well below 2^20, so rounding needs no larger magnitude. */
    int code = rounded_code(f, fminf(fabsf(value), 0x1p20f)), largest = largest_code(f);
    if (code > largest) {
        if (overflow && f->specials == IEEE)
            return (uint8_t)(sign | (largest + 1));
        if (overflow && f->specials != NO_SPECIALS)
            return (uint8_t)(nan_code(f) | sign);
        code = largest;
    }
    if (code == 0 && f->specials == FINITE_UNSIGNED_ZERO)
        return 0;
    return (uint8_t)(sign | code);
}

/* Source: ONNX operator specification, Cast, table of float8e8m0. */
uint8_t we_e8m0_encode(float value, int direction, bool overflow) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t exponent = bits >> 23 & 0xFF, fraction = bits & 0x7FFFFF;
    if (exponent == 0xFF)
        return 0xFF;
    /* To the nearest, ties away from an exponent of 0: the last bit kept is the implicit one. */
    bool up = direction > 0    ? fraction != 0
              : direction == 0 ? fraction > 0x400000 || (fraction == 0x400000 && exponent > 0)
                               : false;
    if (up && exponent == 0xFE && !overflow)
        up = false;
    return (uint8_t)(exponent + up);
}
