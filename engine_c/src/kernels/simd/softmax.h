/* One softmax kernel from vector wrappers, to be defined as KERNEL: three passes over a row that stays in the
 * first-level cache - the largest, exp and the sum, the quotient. */
#include "kernels/kernels.h"
#include "kernels/simd/elementary.h"

/* Lanes past `count` count as -infinity. */
static inline VEC ignore_past(VEC v, int32_t count) {
    static const float PLACES[] = {0, 1, 2,  3,  4,  5,  6,  7,
                                   8, 9, 10, 11, 12, 13, 14, 15}; /* of the most lanes */
    return V_SELECT(V_IS_LESS(V_LOAD(PLACES), V_SPLAT((float)count)), v, V_SPLAT(-INFINITY));
}

static inline __attribute__((always_inline)) VEC term(const we_softmax *how, const float *x, int64_t i,
                                                      int32_t count) {
    VEC v = V_MUL(V_LOAD_UP_TO(x + i, count), V_SPLAT(how->factor));
    return how->added ? V_ADD(v, V_LOAD_UP_TO(how->added + i, count)) : v;
}

/* The terms in y, and the largest of them but NaN, which the sum has anyway. */
static inline __attribute__((always_inline)) float largest(const we_softmax *how, const float *x, float *y) {
    VEC m0 = V_SPLAT(-INFINITY), m1 = m0;
    int64_t i = 0;
    for (; i + 2 * LANES <= how->k; i += 2 * LANES) {
        VEC a = term(how, x, i, LANES), b = term(how, x, i + LANES, LANES);
        V_STORE(y + i, a);
        V_STORE(y + i + LANES, b);
        m0 = V_MAX(a, m0);
        m1 = V_MAX(b, m1);
    }
    for (; i < how->k; i += LANES) {
        int32_t count = how->k - i < LANES ? (int32_t)(how->k - i) : LANES;
        VEC v = term(how, x, i, count);
        V_STORE_UP_TO(y + i, count, v);
        m0 = V_MAX(ignore_past(v, count), m0);
    }
    return v_largest(V_MAX(m0, m1));
}

void KERNEL(const we_softmax *how, const float *x, float *y) {
    float most = largest(how, x, y);
    VEC s0 = V_ZERO(), s1 = V_ZERO(), shift = V_SPLAT(how->masked && most == -INFINITY ? 0 : most);
    int64_t i = 0;
    for (; i + 2 * LANES <= how->k; i += 2 * LANES) {
        VEC a = v_exp(V_SUB(V_LOAD(y + i), shift)), b = v_exp(V_SUB(V_LOAD(y + i + LANES), shift));
        V_STORE(y + i, a);
        V_STORE(y + i + LANES, b);
        s0 = V_ADD(s0, a);
        s1 = V_ADD(s1, b);
    }
    for (; i < how->k; i += LANES) {
        int32_t count = how->k - i < LANES ? (int32_t)(how->k - i) : LANES;
        VEC a = v_exp(V_SUB(ignore_past(V_LOAD_UP_TO(y + i, count), count), shift));
        V_STORE_UP_TO(y + i, count, a);
        s0 = V_ADD(s0, a);
    }
    float sum = v_sum(V_ADD(s0, s1));
    VEC inverse = V_SPLAT(how->masked && sum == 0 ? 0 : 1 / sum);
    for (i = 0; i < how->k; i += LANES) {
        int32_t count = how->k - i < LANES ? (int32_t)(how->k - i) : LANES;
        V_STORE_UP_TO(y + i, count, V_MUL(V_LOAD_UP_TO(y + i, count), inverse));
    }
}
