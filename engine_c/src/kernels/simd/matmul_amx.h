/* A tile of 32 x 32 sums in four tile registers, for split operands. Include simd/amx.h before.
 *
 * The smallest products of parts are summed first, from zero, so that they are not rounded off in the shadow
 * of the larger; what the tile starts from is added last. */
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

enum {
    AMX_SIDE = 16,
    AMX_ROWS = 2 * AMX_SIDE,
    AMX_COLUMNS = 2 * AMX_SIDE,
};

/* Sums are tiles 0 to 3 by rows, A is in 4 and 5, B in 6 and 7. */
static inline void add_products(const we_tile *t, int32_t parts, int32_t p, int32_t q) {
    const float *const *rows = t->rows + p * t->m;
    const int64_t row = t->m > 1 ? rows[1] - rows[0] : 0, line = AMX_COLUMNS * (int64_t)sizeof(float);
    const float *a = rows[0], *b = t->b + q * WE_PART_WORDS * AMX_COLUMNS;
    const int64_t row_bytes = row * (int64_t)sizeof(float);
    const int low = t->m > AMX_SIDE, right = t->n > AMX_SIDE;
    for (int64_t w = 0; w < t->depth; w += WE_PART_WORDS, b += parts * WE_PART_WORDS * AMX_COLUMNS) {
        TILE_LOAD(4, a + w, row_bytes);
        TILE_LOAD(6, b, line);
        TILE_DOT(0, 4, 6);
        if (right) {
            TILE_LOAD(7, b + AMX_SIDE, line);
            TILE_DOT(1, 4, 7);
        }
        if (low) {
            TILE_LOAD(5, a + AMX_SIDE * row + w, row_bytes);
            TILE_DOT(2, 5, 6);
        }
        if (low && right)
            TILE_DOT(3, 5, 7);
    }
}

/* One row: its sums, what they start from and what is added, kept within. */
static inline void finish_row(const we_tile *t, int32_t i, float *sums) {
    const int64_t at = i * (t->narrow ? t->narrow_row : t->ldc);
    const float *residual = t->residual ? t->residual + at : NULL,
                *start = t->accumulate ? t->c + i * t->ldc : t->column_bias;
    const float plain = start || !t->row_bias ? 0 : t->row_bias[i];
    for (int32_t j = 0; j < t->n; j++) {
        float sum = sums[j] + (start ? start[j] : plain) + (residual ? residual[j] : 0);
        sum += t->narrow_residual ? we_bf16_to_f32(t->narrow_residual[at + j]) : 0;
        sum = sum < t->low ? t->low : sum;
        sums[j] = sum > t->high ? t->high : sum;
    }
    for (int32_t j = 0; j < t->n && t->narrow; j++)
        t->narrow[at + j] = we_f32_to_bf16_part(sums[j]);
    if (!t->narrow)
        memcpy(t->c + at, sums, (size_t)t->n * sizeof *sums);
}

static inline __attribute__((always_inline)) void multiply_parts(const we_tile *t, const int32_t parts) {
    _Alignas(64) float sums[AMX_ROWS][AMX_COLUMNS];
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int32_t order = parts - 1; order >= 0; order--) {
        for (int32_t p = 0; p <= order; p++)
            add_products(t, parts, p, order - p);
    }
    TILE_STORE(0, sums[0], sizeof sums[0]);
    TILE_STORE(1, sums[0] + AMX_SIDE, sizeof sums[0]);
    TILE_STORE(2, sums[AMX_SIDE], sizeof sums[0]);
    TILE_STORE(3, sums[AMX_SIDE] + AMX_SIDE, sizeof sums[0]);
    for (int32_t i = 0; i < t->m; i++)
        finish_row(t, i, sums[i]);
}
