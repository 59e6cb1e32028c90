/* One micro-kernel from vector wrappers. Before including define
 *   KERNEL (name), ROWS, VECTORS (columns / lanes), LANES, VEC, V_ZERO(), V_LOAD(p), V_STORE(p, v),
 * V_SPLAT(f), V_FMA(a, b, c) = a * b + c, V_ADD(a, b), V_KEEP_POSITIVE(v) = v < 0 ? 0 : v (NaN stays). ROWS *
 * VECTORS accumulators + VECTORS columns of B + 1 broadcast of A must fit the register file. A partial tile
 * is computed whole in a buffer, since panels are padded with zeros, and copied out. */
#include <stdint.h>

#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 64")

static inline void finish_scalar(float *tile, float *c, int64_t ldc, int32_t m, int32_t n, bool accumulate,
                                 const we_epilogue *epilogue) {
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j < n; j++) {
            float sum = tile[i * VECTORS * LANES + j];
            if (accumulate)
                sum += c[i * ldc + j];
            if (epilogue) {
                sum += epilogue->row_bias ? epilogue->row_bias[i] : 0;
                sum += epilogue->column_bias ? epilogue->column_bias[j] : 0;
                sum = epilogue->relu && sum < 0 ? 0 : sum;
            }
            c[i * ldc + j] = sum;
        }
    }
}

void KERNEL(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t m, int32_t n,
            bool accumulate, const we_epilogue *epilogue) {
    VEC sums[ROWS][VECTORS];
    UNROLL for (int i = 0; i < ROWS; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_ZERO();
    }
    for (int64_t p = 0; p < k; p++) {
        VEC columns[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) columns[j] = V_LOAD(b + j * LANES);
        UNROLL for (int i = 0; i < ROWS; i++) {
            VEC row = V_SPLAT(a[i]);
            UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_FMA(row, columns[j], sums[i][j]);
        }
        a += ROWS;
        b += VECTORS * LANES;
    }
    if (m < ROWS || n < VECTORS * LANES) {
        float tile[ROWS * VECTORS * LANES];
        UNROLL for (int i = 0; i < ROWS; i++) {
            UNROLL for (int j = 0; j < VECTORS; j++) V_STORE(tile + (i * VECTORS + j) * LANES, sums[i][j]);
        }
        finish_scalar(tile, c, ldc, m, n, accumulate, epilogue);
        return;
    }
    UNROLL for (int i = 0; i < ROWS; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) {
            float *to = c + i * ldc + j * LANES;
            VEC sum = sums[i][j];
            if (accumulate)
                sum = V_ADD(sum, V_LOAD(to));
            if (epilogue) {
                if (epilogue->row_bias)
                    sum = V_ADD(sum, V_SPLAT(epilogue->row_bias[i]));
                if (epilogue->column_bias)
                    sum = V_ADD(sum, V_LOAD(epilogue->column_bias + j * LANES));
                if (epilogue->relu)
                    sum = V_KEEP_POSITIVE(sum);
            }
            V_STORE(to, sum);
        }
    }
}
