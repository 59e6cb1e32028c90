#ifndef WE_KERNELS_REF_INTEGER_POWER_H
#define WE_KERNELS_REF_INTEGER_POWER_H

#include <stdint.h>

/* base to the power of exponent by squaring, wrapping; a negative exponent gives the truncated quotient. */
static inline int64_t we_integer_power(int64_t base, int64_t exponent) {
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
    uint64_t result = 1, square = (uint64_t)base;
    for (; exponent; exponent >>= 1, square *= square) {
        if (exponent & 1)
            result *= square;
    }
    return (int64_t)result;
}

#define INTEGER_POWER(a, b) we_integer_power(a, b)

#endif
