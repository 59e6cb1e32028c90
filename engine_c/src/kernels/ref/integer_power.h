#ifndef WE_KERNELS_REF_INTEGER_POWER_H
#define WE_KERNELS_REF_INTEGER_POWER_H

#include <stdint.h>

/* base to the power of exponent by squaring, wrapping. */
static inline uint64_t we_unsigned_power(uint64_t base, uint64_t exponent) {
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base) {
        if (exponent & 1)
            result *= base;
    }
    return result;
}

/* The same with signs; a negative exponent gives the truncated quotient. */
static inline int64_t we_integer_power(int64_t base, int64_t exponent) {
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
    return (int64_t)we_unsigned_power((uint64_t)base, (uint64_t)exponent);
}

#define INTEGER_POWER(a, b) (SIGNED ? (TYPE)we_integer_power(a, b) : (TYPE)we_unsigned_power(a, b))

#endif
