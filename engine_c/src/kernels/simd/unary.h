/* The float32 unary kernels of one instruction set, to be included after its wrappers; NAME(name) is a
 * kernel's name. Every element takes the same instructions, the last ones in a part of a vector. */
#include "kernels/kernels.h"
#include "kernels/simd/elementary.h"

#define UNARY(name, vector_formula)                                                                          \
    void NAME(name)(int64_t n, const void *in, void *out) {                                                  \
        const float *xs = in;                                                                                \
        float *ys = out;                                                                                     \
        int64_t i = 0;                                                                                       \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            VEC x = V_LOAD(xs + i);                                                                          \
            V_STORE(ys + i, vector_formula);                                                                 \
        }                                                                                                    \
        if (i < n) {                                                                                         \
            VEC x = V_LOAD_PART(xs + i, (int32_t)(n - i));                                                   \
            V_STORE_PART(ys + i, (int32_t)(n - i), vector_formula);                                          \
        }                                                                                                    \
    }

static inline VEC v_sign(VEC x) {
    VEC y = V_SELECT(V_IS_LESS(V_ZERO(), x), V_SPLAT(1.0f), x); /* zeros and NaN stay */
    return V_SELECT(V_IS_LESS(x, V_ZERO()), V_SPLAT(-1.0f), y);
}

UNARY(neg, V_NEGATE(x))
UNARY(abs, V_ABS(x))
UNARY(exp, v_exp(x))
UNARY(log, v_log(x))
UNARY(sqrt, V_SQRT(x))
UNARY(reciprocal, V_DIV(V_SPLAT(1.0f), x))
UNARY(tanh, v_tanh(x))
UNARY(sigmoid, v_sigmoid(x))
UNARY(erf, v_erf(x))
UNARY(relu, V_KEEP_POSITIVE(x))
UNARY(floor, V_FLOOR(x))
UNARY(ceil, V_CEIL(x))
UNARY(round, V_NEAREST(x))
UNARY(sign, v_sign(x))
UNARY(softplus, v_softplus(x))
