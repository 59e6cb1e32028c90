/* Conversions of runs, plain C that compilers turn into vectors of whatever instructions there are; define
 * ISA before including, and OWN_HALVES where those of cast_halves.inc are written by hand. */
#include <stdint.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

#define JOIN_(isa, from, to) we_##from##_cast_##to##__##isa
#define JOIN(isa, from, to) JOIN_(isa, from, to)

/* The conversion itself has no result outside its range. */
static inline int64_t whole(float x) {
    int64_t inside = (int64_t)(x > -0x1p63f && x < 0x1p63f ? x : 0);
    int64_t above = x >= 0x1p63f ? INT64_MAX : inside;
    return x <= -0x1p63f ? INT64_MIN : above;
}

#define WE_CAST_PAIR(FROM, from, TO, to, IN, OUT, formula)                                                   \
    void JOIN(ISA, from, to)(int64_t n, const void *in, void *out) {                                         \
        const IN *restrict xs = in;                                                                          \
        OUT *restrict ys = out;                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            IN x = xs[i];                                                                                    \
            ys[i] = formula;                                                                                 \
        }                                                                                                    \
    }
#include "kernels/cast_pairs.inc"
#if !defined(OWN_HALVES)
#include "kernels/cast_halves.inc"
#endif
#undef WE_CAST_PAIR
