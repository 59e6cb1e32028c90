/* Plain loops, which the compiler makes vectors of. The including file says NAME(function). */
#include <string.h>

#include "kernels/sort_keys.h"

#define DEFINE_KEYS(width, real)                                                                             \
    void NAME(encode_##width)(int64_t n, const real *from, int##width##_t flip, int##width##_t *keys) {      \
        const int##width##_t largest = INT##width##_MAX;                                                     \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            int##width##_t bits, key;                                                                        \
            memcpy(&bits, from + i, sizeof bits);                                                            \
            key = bits ^ ((bits >> (width - 1)) & largest); /* negative ones count down */                   \
            key = key == -1 ? 0 : key;                                                                       \
            key = (bits & largest) > WE_INFINITY_##width ? largest : key;                                    \
            keys[i] = key ^ flip;                                                                            \
        }                                                                                                    \
    }                                                                                                        \
    void NAME(decode_##width)(int64_t n, const int##width##_t *keys, int##width##_t flip, real *to) {        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            int##width##_t key = keys[i] ^ flip, bits = key ^ ((key >> (width - 1)) & INT##width##_MAX);     \
            memcpy(to + i, &bits, sizeof bits);                                                              \
        }                                                                                                    \
    }
#define WE_INFINITY_32 0x7f800000
#define WE_INFINITY_64 0x7ff0000000000000
DEFINE_KEYS(32, float)
DEFINE_KEYS(64, double)
