/* One micro-kernel from vector wrappers. Before including define
 *   KERNEL (name), ROWS, VECTORS (columns / lanes)
 * and include simd/<isa>.h for LANES, VEC and the V_ functions. Where that has V_FMA_BLOCK, a product of
 * blocks of 2 x 2, the loop is that of simd/matmul_blocks.h.
 *
 * Every number of rows and of column vectors up to the tile's is a variant of its own with constant bounds,
 * so that sums live in registers and no row is computed in vain. */
#include <stdint.h>

#include "kernels/kernels.h"

enum {
    LINE = 16, /* floats of a cache line */
};

#define UNROLL _Pragma("GCC unroll 64")
#define INLINE static inline __attribute__((always_inline))

/* Columns of vector j; all but the last are whole. */
#define COUNT(j) ((j) < vectors - 1 ? LANES : t->n - (vectors - 1) * LANES)

/* What sums start from: C, a bias, or nothing. */
INLINE void start(const we_tile *t, const int rows, const int vectors, VEC sums[ROWS][VECTORS]) {
    if (t->accumulate) {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] =
                V_LOAD_UP_TO(t->c + i * t->ldc + j * LANES, COUNT(j));
        }
        return;
    }
    UNROLL for (int j = 0; j < vectors; j++) {
        VEC bias = t->column_bias ? V_LOAD_UP_TO(t->column_bias + j * LANES, COUNT(j)) : V_ZERO();
        UNROLL for (int i = 0; i < rows; i++) sums[i][j] = bias;
    }
    if (t->row_bias) {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = V_SPLAT(t->row_bias[i]);
        }
    }
}

#define KEPT(t, sum) V_CAP(V_RAISE(sum, (t)->low), (t)->high)

/* Results and residuals of bfloat16; true where the result is one and is stored. */
#if !defined(V_LOAD_NARROW)
#define finish_narrow(t, rows, vectors, sums) false
#else
INLINE bool finish_narrow(const we_tile *t, const int rows, const int vectors, VEC sums[ROWS][VECTORS]) {
    const int64_t row = t->narrow ? t->narrow_row : t->ldc;
    if (t->narrow_residual) {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] =
                V_ADD(sums[i][j], V_LOAD_NARROW(t->narrow_residual + i * row + j * LANES, COUNT(j)));
        }
    }
    if (t->narrow) {
        uint16_t *to = t->narrow;
        UNROLL for (int i = 0; i < rows; i++, to += row) {
            UNROLL for (int j = 0; j < vectors; j++)
                V_STORE_NARROW(to + j * LANES, COUNT(j), KEPT(t, sums[i][j]));
        }
        return true;
    }
    return false;
}
#endif

INLINE void finish(const we_tile *t, const int rows, const int vectors, VEC sums[ROWS][VECTORS]) {
    const int64_t row = t->narrow ? t->narrow_row : t->ldc;
    if (t->residual) {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] =
                V_ADD(sums[i][j], V_LOAD_UP_TO(t->residual + i * row + j * LANES, COUNT(j)));
        }
    }
    if (finish_narrow(t, rows, vectors, sums))
        return;
    float *c = t->c;
    UNROLL for (int i = 0; i < rows; i++, c += t->ldc) {
        UNROLL for (int j = 0; j < vectors; j++) V_STORE_UP_TO(c + j * LANES, COUNT(j), KEPT(t, sums[i][j]));
    }
}

#if defined(V_FMA_BLOCK)
#include "kernels/simd/matmul_blocks.h"
#else
/* A tile of few sums waits for the FMA's latency, so neighbouring elements of k get sums of their own: some
 * eight chains keep two units of four cycles busy. */
#define CHAINS(rows, vectors) ((rows) * (vectors) <= 2 ? 4 : (rows) * (vectors) <= 4 ? 2 : 1)

INLINE void multiply(const we_tile *tile, const int rows, const int vectors) {
    const we_tile own = *tile, *t = &own;     /* a copy that no store to C can change */
    const int chains = CHAINS(rows, VECTORS); /* not `vectors`: all columns of a product are summed alike */
    VEC sums[ROWS][VECTORS], more[3][4];
    const float *b = t->b, *ahead = t->ahead;
    const float *const *starts = t->rows;
    start(t, rows, vectors, sums);
    UNROLL for (int s = 0; s < chains - 1; s++) {
        UNROLL for (int i = 0; i < rows * vectors; i++) more[s][i] = V_ZERO();
    }
    for (int64_t r = 0; r < t->runs; r++, starts += rows) {
        const float *a[ROWS];
        UNROLL for (int i = 0; i < rows; i++) a[i] = starts[i] + t->depth;
        int64_t p = -t->depth;
        if (chains > 1) {
            for (; p + chains <= 0; p += chains, b += chains * VECTORS * LANES) {
                UNROLL for (int s = 0; s < chains; s++) {
                    UNROLL for (int i = 0; i < rows; i++) {
                        VEC row = V_SPLAT(a[i][p + s]);
                        UNROLL for (int j = 0; j < vectors; j++) {
                            VEC *sum = s ? &more[s - 1][i * vectors + j] : &sums[i][j];
                            *sum = V_FMA(row, V_LOAD(b + (s * VECTORS + j) * LANES), *sum);
                        }
                    }
                }
            }
        }
        for (; p < 0; p++, b += VECTORS * LANES, ahead += LINE) {
            VEC columns[VECTORS];
            __builtin_prefetch(ahead, 0, 2);
            UNROLL for (int j = 0; j < vectors; j++) columns[j] = V_LOAD(b + j * LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                VEC row = V_SPLAT(a[i][p]);
                UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = V_FMA(row, columns[j], sums[i][j]);
            }
        }
    }
    UNROLL for (int s = 0; s < chains - 1; s++) {
        UNROLL for (int i = 0; i < rows * vectors; i++) sums[i / vectors][i % vectors] =
            V_ADD(sums[i / vectors][i % vectors], more[s][i]);
    }
    finish(t, rows, vectors, sums);
}

#endif

/* One function per number of rows. */
#define AT_MOST(count) (VECTORS < (count) ? VECTORS : (count))
#define VARIANT(rows)                                                                                        \
    static void multiply_##rows(const we_tile *t) {                                                          \
        int32_t vectors = (t->n + LANES - 1) / LANES;                                                        \
        if (vectors <= 1)                                                                                    \
            multiply(t, rows, 1);                                                                            \
        else if (VECTORS == 2 || vectors == 2)                                                               \
            multiply(t, rows, AT_MOST(2));                                                                   \
        else if (VECTORS == 3 || vectors == 3)                                                               \
            multiply(t, rows, AT_MOST(3));                                                                   \
        else                                                                                                 \
            multiply(t, rows, AT_MOST(4));                                                                   \
    }
#define ENTRY(rows) [rows] = multiply_##rows,
#define UP_TO_4(X) X(1) X(2) X(3) X(4)
#define UP_TO_6(X) UP_TO_4(X) X(5) X(6)
#define UP_TO_8(X) UP_TO_6(X) X(7) X(8)
#define UP_TO_9(X) UP_TO_8(X) X(9)
#define UP_TO_14(X) UP_TO_9(X) X(10) X(11) X(12) X(13) X(14)
#define PASTE(a, b) a##b
#define UP_TO(rows, X) PASTE(UP_TO_, rows)(X)

UP_TO(ROWS, VARIANT)

void KERNEL(const we_tile *t) {
    static const we_matmul_kernel VARIANTS[ROWS + 1] = {UP_TO(ROWS, ENTRY)};
    VARIANTS[t->m](t);
}
