/* One micro-kernel from vector wrappers. Before including define
 *   KERNEL (name), ROWS, VECTORS (columns / lanes), LANES, VEC, V_ZERO(), V_LOAD(p), V_STORE(p, v),
 * V_LOAD_PART(p, count), V_STORE_PART(p, count, v), V_SPLAT(f), V_FMA(a, b, c) = a * b + c, V_ADD(a, b),
 * V_KEEP_POSITIVE(v) = v < 0 ? 0 : v (NaN stays), V_CAP(v, most) = v > most ? most : v. ROWS * VECTORS
 * accumulators + VECTORS columns of B + 1 broadcast of A must fit the register file. A partial tile is
 * computed whole, since panels are padded, and stored in part. */
#include <stdint.h>

#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 64")

/* One vector of `count` <= LANES results of row i, columns from j on. */
static inline __attribute__((always_inline)) void finish_vector(VEC sum, float *c, int64_t at, int32_t count,
                                                                int32_t i, int32_t j, bool accumulate,
                                                                const we_epilogue *epilogue) {
#define LOAD(p) (count == LANES ? V_LOAD(p) : V_LOAD_PART(p, count))
    if (accumulate)
        sum = V_ADD(sum, LOAD(c + at));
    if (epilogue) {
        if (epilogue->row_bias)
            sum = V_ADD(sum, V_SPLAT(epilogue->row_bias[i]));
        if (epilogue->column_bias)
            sum = V_ADD(sum, LOAD(epilogue->column_bias + j));
        if (epilogue->residual)
            sum = V_ADD(sum, LOAD(epilogue->residual + at));
        if (epilogue->relu)
            sum = V_KEEP_POSITIVE(sum);
        if (epilogue->ceiling > 0)
            sum = V_CAP(sum, epilogue->ceiling);
    }
#undef LOAD
    if (count == LANES)
        V_STORE(c + at, sum);
    else
        V_STORE_PART(c + at, count, sum);
}

static inline __attribute__((always_inline)) void finish_tile(VEC sums[ROWS][VECTORS], float *c, int64_t ldc,
                                                              int32_t m, int32_t n, bool accumulate,
                                                              const we_epilogue *epilogue) {
    UNROLL for (int i = 0; i < ROWS; i++) {
        if (i < m) {
            UNROLL for (int j = 0; j < VECTORS; j++) {
                int32_t left = n - j * LANES;
                if (left > 0)
                    finish_vector(sums[i][j], c, i * ldc + j * LANES, left < LANES ? left : LANES, i,
                                  j * LANES, accumulate, epilogue);
            }
        }
    }
}

/* The sums over k of the first `vectors` columns of vectors. The caller's next panel of A lies behind this
 * one as a rule, so it is asked for on the way. */
static inline __attribute__((always_inline)) void sum_up(int64_t k, const float *a, const float *b,
                                                         VEC sums[ROWS][VECTORS], const int vectors) {
    int64_t next = k * ROWS;
    UNROLL for (int i = 0; i < ROWS; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_ZERO();
    }
    for (int64_t p = 0; p < k; p++) {
        VEC columns[VECTORS];
        __builtin_prefetch(a + next, 0, 2);
        UNROLL for (int j = 0; j < vectors; j++) columns[j] = V_LOAD(b + j * LANES);
        UNROLL for (int i = 0; i < ROWS; i++) {
            VEC row = V_SPLAT(a[i]);
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = V_FMA(row, columns[j], sums[i][j]);
        }
        a += ROWS;
        b += VECTORS * LANES;
    }
}

void KERNEL(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t m, int32_t n,
            bool accumulate, const we_epilogue *epilogue) {
    VEC sums[ROWS][VECTORS];
    if (n <= LANES) { /* the last columns of many a matrix */
        sum_up(k, a, b, sums, 1);
        finish_tile(sums, c, ldc, m, n, accumulate, epilogue);
        return;
    }
    sum_up(k, a, b, sums, VECTORS);
    if (m == ROWS && n == VECTORS * LANES)
        finish_tile(sums, c, ldc, ROWS, VECTORS * LANES, accumulate, epilogue);
    else
        finish_tile(sums, c, ldc, m, n, accumulate, epilogue);
}
