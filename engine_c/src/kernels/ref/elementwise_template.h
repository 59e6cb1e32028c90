/* Unary, binary and reduce kernels of one type, plain C. Define before including, for e.g. float32:
 *   TYPE float, DT f32, M(function) function##f, FLOATING 1, LOWEST, HIGHEST, SUM_TYPE; SIGNED 0 for unsigned
 * types.
 */
#ifndef SIGNED
#define SIGNED 1
#endif
#define JOIN_(dt, family, name) we_##dt##_##family##_##name##__ref
#define JOIN(dt, family, name) JOIN_(dt, family, name)

#define UNARY(name, formula)                                                                                 \
    void JOIN(DT, unary, name)(int64_t n, const void *in, void *out) {                                       \
        const TYPE *xs = in;                                                                                 \
        TYPE *ys = out;                                                                                      \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            TYPE x = xs[i];                                                                                  \
            ys[i] = (TYPE)(formula);                                                                         \
        }                                                                                                    \
    }

#define BINARY(name, formula, RESULT)                                                                        \
    void JOIN(DT, binary, name)(int64_t n, const void *left, int64_t a_step, const void *right,              \
                                int64_t b_step, void *out) {                                                 \
        const TYPE *as = left, *bs = right;                                                                  \
        RESULT *ys = out;                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            TYPE a = as[i * a_step], b = bs[i * b_step];                                                     \
            ys[i] = (RESULT)(formula);                                                                       \
        }                                                                                                    \
    }

#define REDUCE(name, start, step)                                                                            \
    void JOIN(DT, reduce, name)(int64_t k, int64_t inner, const void *in, void *out) {                       \
        const TYPE *xs = in;                                                                                 \
        TYPE *ys = out;                                                                                      \
        for (int64_t j = 0; j < inner; j++) {                                                                \
            SUM_TYPE s = start;                                                                              \
            for (int64_t i = 0; i < k; i++) {                                                                \
                SUM_TYPE x = xs[i * inner + j];                                                              \
                s = step;                                                                                    \
            }                                                                                                \
            ys[j] = (TYPE)s;                                                                                 \
        }                                                                                                    \
    }

/* Copies of the sign come in. */
#define RIGHT_SHIFT(a, b)                                                                                    \
    (SIGNED ? (uint64_t)((int64_t)(a) >> ((uint64_t)(b) > 63 ? 63 : (b)))                                    \
            : ((uint64_t)(b) > 63 ? 0 : (uint64_t)(a) >> (b)))

/* The remainder with the sign of b. */
#if FLOATING
static TYPE floored_mod(TYPE a, TYPE b) {
    TYPE rest = M(fmod)(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
#else
static TYPE floored_mod(TYPE a, TYPE b) {
    if (b == 0 || (SIGNED && b == (TYPE)-1))
        return 0;
    TYPE rest = a % b;
    return SIGNED && rest != 0 && (rest ^ b) >> (8 * sizeof b - 1) ? rest + b : rest;
}
#endif

#if FLOATING
#define WE_UNARY_FN(Name, name, formula) UNARY(name, formula)
#include "kernels/unary_fns.inc"
#undef WE_UNARY_FN
#define WE_BINARY_FN(Name, name, floating, integer) BINARY(name, floating, TYPE)
#else
#define WE_INTEGER_UNARY_FN(Name, name, formula) UNARY(name, formula)
#include "kernels/unary_fns.inc"
#undef WE_INTEGER_UNARY_FN
#define WE_BINARY_FN(Name, name, floating, integer) BINARY(name, integer, TYPE)
#define WE_INTEGER_FN(Name, name, formula) BINARY(name, formula, TYPE)
#endif
#define WE_COMPARE_FN(Name, name, formula) BINARY(name, formula, uint8_t)
#include "kernels/binary_fns.inc"
#undef WE_BINARY_FN
#undef WE_INTEGER_FN
#undef WE_COMPARE_FN

#define WE_REDUCE_FN(Name, name, start, step) REDUCE(name, start, step)
#include "kernels/reduce_fns.inc"
#undef WE_REDUCE_FN
