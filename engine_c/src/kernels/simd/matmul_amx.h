/* A tile of 32 x 32 sums in four tile registers, for split operands. Before including define the TILE_ and V_
 * functions (simd/amx.h, simd/<isa>.h).
 *
 * The smallest products of parts are summed first, from zero, so that they are not rounded off in the shadow
 * of the larger; what the tile starts from is added last. */
#include <stdint.h>

#include "kernels/kernels.h"

enum {
    AMX_SIDE = 16,
    AMX_ROWS = 2 * AMX_SIDE,
    AMX_COLUMNS = 2 * AMX_SIDE,
    AMX_LINE = 16, /* floats of a cache line */
};

/* Sixteen rows: where the first lies, and bytes to the next. */
typedef struct amx_rows {
    const float *at;
    int64_t bytes;
} amx_rows;

static inline amx_rows amx_rows_of(const float *const *rows, int32_t count) {
    return (amx_rows){rows[0], count > 1 ? (rows[1] - rows[0]) * (int64_t)sizeof(float) : 0};
}

/* One run. Sums are tiles 0 to 3 by rows, A is in 4 and 5, B in 6 and 7. A step takes 64 cycles where all
 * four are summed, its loads half of that; every word brings one line of what is `ahead`. */
static inline void add_run(const we_tile *t, int32_t parts, const float *const *rows, const float *b,
                           const float *ahead) {
    const int64_t line = AMX_COLUMNS * (int64_t)sizeof(float);
    const int low = t->m > AMX_SIDE, right = t->n > AMX_SIDE;
    const amx_rows first = amx_rows_of(rows, t->m);
    const amx_rows second = low ? amx_rows_of(rows + AMX_SIDE, t->m - AMX_SIDE) : first;
    for (int64_t w = 0; w < t->depth; w += WE_PART_WORDS, b += parts * WE_PART_WORDS * AMX_COLUMNS) {
        for (int i = 0; ahead && i < WE_PART_WORDS; i++)
            __builtin_prefetch(ahead + (w + i) * AMX_LINE, 0, 2);
        TILE_LOAD(4, first.at + w, first.bytes);
        TILE_LOAD(6, b, line);
        TILE_DOT(0, 4, 6);
        if (right) {
            TILE_LOAD(7, b + AMX_SIDE, line);
            TILE_DOT(1, 4, 7);
        }
        if (low) {
            TILE_LOAD(5, second.at + w, second.bytes);
            TILE_DOT(2, 5, 6);
        }
        if (low && right)
            TILE_DOT(3, 5, 7);
    }
}

/* Products of part p of A and part q of B; rows are those of runs or those of parts. */
static inline void add_products(const we_tile *t, int32_t parts, int32_t p, int32_t q, bool bring) {
    const float *b = t->b + q * WE_PART_WORDS * AMX_COLUMNS, *ahead = bring ? t->ahead : NULL;
    const float *const *rows = t->rows + p * t->m;
    for (int64_t r = 0; r < t->runs; r++) {
        add_run(t, parts, rows + r * t->m, b, ahead);
        b += t->depth * parts * AMX_COLUMNS;
        ahead = ahead ? ahead + t->depth * AMX_LINE : NULL;
    }
}

/* One row of one vector: its sums, what they start from and what is added, kept within. */
static inline void finish_vector(const we_tile *t, int32_t i, int32_t j, VEC sum, VEC bias) {
    const int32_t count = t->n - j < LANES ? t->n - j : LANES;
    const int64_t at = i * (t->narrow ? t->narrow_row : t->ldc) + j;
    if (t->accumulate)
        bias = V_LOAD_UP_TO(t->c + i * t->ldc + j, count);
    else if (t->row_bias)
        bias = V_SPLAT(t->row_bias[i]);
    sum = V_ADD(sum, bias);
    if (t->residual)
        sum = V_ADD(sum, V_LOAD_UP_TO(t->residual + at, count));
    if (t->narrow_residual)
        sum = V_ADD(sum, V_LOAD_NARROW(t->narrow_residual + at, count));
    sum = V_CAP(V_RAISE(sum, t->low), t->high);
    if (t->narrow)
        V_STORE_NARROW(t->narrow + at, count, sum);
    else
        V_STORE_UP_TO(t->c + at, count, sum);
}

static inline void finish(const we_tile *tile, float sums[AMX_ROWS][AMX_COLUMNS]) {
    const we_tile own = *tile, *t = &own; /* a copy that no store to C can change */
    for (int32_t j = 0; j < t->n; j += LANES) {
        const int32_t count = t->n - j < LANES ? t->n - j : LANES;
        const VEC bias = t->column_bias ? V_LOAD_UP_TO(t->column_bias + j, count) : V_ZERO();
        for (int32_t i = 0; i < t->m; i++)
            finish_vector(t, i, j, V_LOAD(&sums[i][j]), bias);
    }
}

static inline __attribute__((always_inline)) void multiply_parts(const we_tile *t, const int32_t parts) {
    _Alignas(64) float sums[AMX_ROWS][AMX_COLUMNS];
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int32_t order = parts - 1; order >= 0; order--) {
        for (int32_t p = 0; p <= order; p++)
            add_products(t, parts, p, order - p, order == parts - 1 && p == 0);
    }
    TILE_STORE(0, sums[0], sizeof sums[0]);
    TILE_STORE(1, sums[0] + AMX_SIDE, sizeof sums[0]);
    TILE_STORE(2, sums[AMX_SIDE], sizeof sums[0]);
    TILE_STORE(3, sums[AMX_SIDE] + AMX_SIDE, sizeof sums[0]);
    finish(t, sums);
}
