/* One kernel of few rows times a panel of VECTORS vectors, from vector wrappers, to be defined as KERNEL;
 * rows go MOST_ROWS at a time: MOST_ROWS * VECTORS sums, a vector of the panel and one of x must fit the
 * register file. */
#include "kernels/kernels.h"

#define VECTORS 4
#define UNROLL _Pragma("GCC unroll 8")

static inline __attribute__((always_inline)) void finish(const we_gemv *g, int64_t row, VEC sum, int32_t j) {
    int32_t left = g->count - j * LANES;
    const float *start = g->start ? g->start + row * g->start_row + j * LANES : NULL;
    float *y = g->y + row * g->y_row + j * LANES;
    if (left >= LANES) {
        V_STORE(y, start ? V_ADD(sum, V_LOAD(start)) : sum);
    } else if (left > 0) {
        V_STORE_PART(y, left, start ? V_ADD(sum, V_LOAD_PART(start, left)) : sum);
    }
}

/* One row: two sums per column, or each would wait for the one before. */
static void one_row(const we_gemv *g, int64_t row) {
    const float *x = g->x + row * g->x_row, *w = g->w;
    VEC even[VECTORS], odd[VECTORS];
    int64_t p = 0;
    UNROLL for (int j = 0; j < VECTORS; j++) even[j] = odd[j] = V_ZERO();
    for (; p + 2 <= g->k; p += 2, w += 2 * VECTORS * LANES) {
        VEC a = V_SPLAT(x[p]), b = V_SPLAT(x[p + 1]);
        UNROLL for (int j = 0; j < VECTORS; j++) {
            even[j] = V_FMA(a, V_LOAD(w + j * LANES), even[j]);
            odd[j] = V_FMA(b, V_LOAD(w + (VECTORS + j) * LANES), odd[j]);
        }
    }
    if (p < g->k) {
        VEC a = V_SPLAT(x[p]);
        UNROLL for (int j = 0; j < VECTORS; j++) even[j] = V_FMA(a, V_LOAD(w + j * LANES), even[j]);
    }
    UNROLL for (int j = 0; j < VECTORS; j++) finish(g, row, V_ADD(even[j], odd[j]), j);
}

static inline __attribute__((always_inline)) void some_rows(const we_gemv *g, int64_t row, const int rows) {
    const float *x = g->x + row * g->x_row, *w = g->w;
    VEC sums[MOST_ROWS][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_ZERO();
    }
    for (int64_t p = 0; p < g->k; p++, w += VECTORS * LANES) {
        VEC columns[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) columns[j] = V_LOAD(w + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            VEC value = V_SPLAT(x[i * g->x_row + p]);
            UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_FMA(value, columns[j], sums[i][j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) finish(g, row + i, sums[i][j], j);
    }
}

void KERNEL(const we_gemv *g) {
    int64_t row = 0;
    for (; row + MOST_ROWS <= g->rows; row += MOST_ROWS)
        some_rows(g, row, MOST_ROWS);
    for (; row + 2 <= g->rows; row += 2)
        some_rows(g, row, 2);
    if (row < g->rows)
        one_row(g, row);
}
