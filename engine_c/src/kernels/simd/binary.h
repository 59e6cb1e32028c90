/* The float32 binary kernels of one instruction set, to be included after its wrappers; NAME(name) is a
 * kernel's name. Both operands in runs, or one of them a scalar; other steps (transposed views) fall to the
 * scalar loop. */
#include "kernels/kernels.h"

#define RUN(a_vector, b_vector, vector_formula)                                                              \
    for (; i + LANES <= n; i += LANES) {                                                                     \
        VEC a = a_vector, b = b_vector;                                                                      \
        V_STORE(ys + i, vector_formula);                                                                     \
    }

#define BINARY(name, scalar_formula, vector_formula)                                                         \
    void NAME(name)(int64_t n, const void *left, int64_t a_step, const void *right, int64_t b_step,          \
                    void *out) {                                                                             \
        const float *as = left, *bs = right;                                                                 \
        float *ys = out;                                                                                     \
        int64_t i = 0;                                                                                       \
        if (a_step == 1 && b_step == 1) {                                                                    \
            RUN(V_LOAD(as + i), V_LOAD(bs + i), vector_formula)                                              \
        } else if (a_step == 1 && b_step == 0 && n >= LANES) {                                               \
            VEC whole = V_SPLAT(bs[0]);                                                                      \
            RUN(V_LOAD(as + i), whole, vector_formula)                                                       \
        } else if (a_step == 0 && b_step == 1 && n >= LANES) {                                               \
            VEC whole = V_SPLAT(as[0]);                                                                      \
            RUN(whole, V_LOAD(bs + i), vector_formula)                                                       \
        }                                                                                                    \
        for (; i < n; i++) {                                                                                 \
            float a = as[i * a_step], b = bs[i * b_step];                                                    \
            ys[i] = scalar_formula;                                                                          \
        }                                                                                                    \
    }

BINARY(add, a + b, V_ADD(a, b))
BINARY(sub, a - b, V_SUB(a, b))
BINARY(mul, a *b, V_MUL(a, b))
BINARY(div, a / b, V_DIV(a, b))
BINARY(max, a > b || a != a ? a : b, V_LARGER(a, b))
BINARY(min, a < b || a != a ? a : b, V_SMALLER(a, b))
