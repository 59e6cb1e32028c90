#include "kernels/kernels.h"
#include "kernels/simd/avx2.h"

/* Both operands in runs, or one of them a scalar; other steps (transposed views) fall to the scalar loop. */
#define BINARY(name, scalar_formula, vector_formula)                                                         \
    void we_f32_binary_##name##__avx2(int64_t n, const void *left, int64_t a_step, const void *right,        \
                                      int64_t b_step, void *out) {                                           \
        const float *as = left, *bs = right;                                                                 \
        float *ys = out;                                                                                     \
        int64_t i = 0;                                                                                       \
        if (a_step == 1 && b_step == 1) {                                                                    \
            for (; i + LANES <= n; i += LANES) {                                                             \
                VEC a = V_LOAD(as + i), b = V_LOAD(bs + i);                                                  \
                V_STORE(ys + i, vector_formula);                                                             \
            }                                                                                                \
        } else if (a_step == 1 && b_step == 0 && n >= LANES) {                                               \
            VEC b = V_SPLAT(bs[0]);                                                                          \
            for (; i + LANES <= n; i += LANES) {                                                             \
                VEC a = V_LOAD(as + i);                                                                      \
                V_STORE(ys + i, vector_formula);                                                             \
            }                                                                                                \
        } else if (a_step == 0 && b_step == 1 && n >= LANES) {                                               \
            VEC a = V_SPLAT(as[0]);                                                                          \
            for (; i + LANES <= n; i += LANES) {                                                             \
                VEC b = V_LOAD(bs + i);                                                                      \
                V_STORE(ys + i, vector_formula);                                                             \
            }                                                                                                \
        }                                                                                                    \
        for (; i < n; i++) {                                                                                 \
            float a = as[i * a_step], b = bs[i * b_step];                                                    \
            ys[i] = scalar_formula;                                                                          \
        }                                                                                                    \
    }

/* MAXPS and MINPS return their second operand unless the comparison holds; that passes a NaN of b, and the
 * blend one of a. */
#define PASS_NAN(picked) _mm256_blendv_ps(picked, a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q))

BINARY(add, a + b, _mm256_add_ps(a, b))
BINARY(sub, a - b, _mm256_sub_ps(a, b))
BINARY(mul, a *b, _mm256_mul_ps(a, b))
BINARY(div, a / b, _mm256_div_ps(a, b))
BINARY(max, a > b || a != a ? a : b, PASS_NAN(_mm256_max_ps(a, b)))
BINARY(min, a < b || a != a ? a : b, PASS_NAN(_mm256_min_ps(a, b)))
