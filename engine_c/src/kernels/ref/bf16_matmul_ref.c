/* Reference micro-kernels of split operands: the plain loops over a tile, summed in double. */
#include <string.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

enum {
    COLUMNS = 4,
};

static float start_of(const we_tile *t, int32_t i, int32_t j) {
    if (t->accumulate)
        return t->c[i * t->ldc + j];
    if (t->column_bias)
        return t->column_bias[j];
    return t->row_bias ? t->row_bias[i] : 0;
}

/* The product of two words: of their low halves and of their high halves, exactly. */
static double times(const float *a, const float *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (double)we_bf16_to_f32((uint16_t)x) * we_bf16_to_f32((uint16_t)y) +
           (double)we_bf16_to_f32((uint16_t)(x >> 16)) * we_bf16_to_f32((uint16_t)(y >> 16));
}

/* Word `w` of a row of part `part` of b. */
static const float *word_of(const we_tile *t, int32_t parts, int64_t w, int32_t part) {
    int64_t chunk = parts == 1 ? w : (w / WE_PART_WORDS * parts + part) * WE_PART_WORDS + w % WE_PART_WORDS;
    return t->b + chunk * COLUMNS;
}

static void multiply(const we_tile *t, int32_t parts) {
    for (int32_t i = 0; i < t->m; i++) {
        for (int32_t j = 0; j < t->n; j++) {
            double terms = 0;
            for (int64_t w = 0; w < t->runs * t->depth; w++) {
                const float *const *rows = t->rows + w / t->depth * t->m;
                for (int32_t p = 0; p < parts; p++) {
                    for (int32_t q = 0; p + q < parts; q++)
                        terms += times(&rows[p * t->m + i][w % t->depth], word_of(t, parts, w, q) + j);
                }
            }
            int64_t at = i * (t->narrow ? t->narrow_row : t->ldc) + j;
            float sum = (float)(start_of(t, i, j) + terms);
            sum += t->residual ? t->residual[at] : 0;
            sum += t->narrow_residual ? we_bf16_to_f32(t->narrow_residual[at]) : 0;
            sum = sum < t->low ? t->low : sum;
            sum = sum > t->high ? t->high : sum;
            if (t->narrow)
                t->narrow[at] = we_f32_to_bf16_part(sum);
            else
                t->c[at] = sum;
        }
    }
}

void we_bf16x1_matmul_4x4__ref(const we_tile *t) {
    multiply(t, 1);
}

void we_bf16x2_matmul_4x4__ref(const we_tile *t) {
    multiply(t, 2);
}

void we_bf16x3_matmul_4x4__ref(const we_tile *t) {
    multiply(t, 3);
}
