/* Dense linear algebra by the compiler's vector types, so that one text serves both real types and every
 * width. The including file says REAL, NAME(function), LANES, ROWS and VECTORS (of a tile). Contracts are in
 * kernels.h. These files alone are compiled with contraction of products and sums. */
#include "kernels/kernels.h"

#include <string.h>

typedef REAL vector __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

enum {
    COLUMNS = VECTORS * LANES,
    SUMS = 4, /* independent sums hide the latency of an addition */
};

static inline vector load(const REAL *from) {
    return *(const vector *)from;
}

static inline void store(REAL *to, vector v) {
    *(vector *)to = v;
}

REAL NAME(dot)(int64_t n, const REAL *x, const REAL *y) {
    vector sums[SUMS] = {0};
    int64_t i = 0;
    for (; i + SUMS * LANES <= n; i += SUMS * LANES) {
        for (int s = 0; s < SUMS; s++)
            sums[s] += load(x + i + s * LANES) * load(y + i + s * LANES);
    }
    for (; i + LANES <= n; i += LANES)
        sums[0] += load(x + i) * load(y + i);
    vector all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    REAL sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += all[lane];
    for (; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

void NAME(add)(int64_t n, REAL a, const REAL *x, REAL *y) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, load(y + i) + a * load(x + i));
    for (; i < n; i++)
        y[i] += a * x[i];
}

/* A row that two rotations share stays in registers between them. */
#define TURN_VECTORS 4
static inline void turn_block(int64_t count, const REAL *cosines, const REAL *sines, REAL *x, int64_t step,
                              int vectors) {
    vector upper[TURN_VECTORS];
    for (int v = 0; v < vectors; v++)
        upper[v] = load(x + v * LANES);
    for (int64_t k = 0; k < count; k++) {
        REAL *to = x + k * step;
        for (int v = 0; v < vectors; v++) {
            vector lower = load(to + step + v * LANES);
            store(to + v * LANES, cosines[k] * upper[v] + sines[k] * lower);
            upper[v] = cosines[k] * lower - sines[k] * upper[v];
        }
    }
    for (int v = 0; v < vectors; v++)
        store(x + count * step + v * LANES, upper[v]);
}

void NAME(turn)(int64_t columns, int64_t count, const REAL *cosines, const REAL *sines, REAL *x,
                int64_t step) {
    int64_t j = 0;
    for (; j + TURN_VECTORS * LANES <= columns; j += TURN_VECTORS * LANES)
        turn_block(count, cosines, sines, x + j, step, TURN_VECTORS);
    for (; j + LANES <= columns; j += LANES)
        turn_block(count, cosines, sines, x + j, step, 1);
    for (; j < columns; j++) {
        REAL upper = x[j];
        for (int64_t k = 0; k < count; k++) {
            REAL *to = x + k * step + j, lower = to[step];
            *to = cosines[k] * upper + sines[k] * lower;
            upper = cosines[k] * lower - sines[k] * upper;
        }
        x[count * step + j] = upper;
    }
}

static inline void tile_whole(int64_t k, const REAL *a, const REAL *b, REAL sign, REAL *c, int64_t ldc) {
    vector sums[ROWS][VECTORS];
    memset(sums, 0, sizeof sums);
    for (int64_t p = 0; p < k; p++) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sums[i][v] += a[p * ROWS + i] * load(b + p * COLUMNS + v * LANES);
        }
    }
    for (int i = 0; i < ROWS; i++) {
        for (int v = 0; v < VECTORS; v++) {
            REAL *to = c + i * ldc + v * LANES;
            store(to, load(to) + sign * sums[i][v]);
        }
    }
}

void NAME(tile)(int64_t k, const REAL *a, const REAL *b, REAL sign, REAL *c, int64_t ldc, int32_t m,
                int32_t n) {
    if (m == ROWS && n == COLUMNS) {
        tile_whole(k, a, b, sign, c, ldc);
        return;
    }
    REAL edge[ROWS * COLUMNS] = {0};
    tile_whole(k, a, b, sign, edge, COLUMNS);
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j < n; j++)
            c[i * ldc + j] += edge[i * COLUMNS + j];
    }
}
