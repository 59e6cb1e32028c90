/* Reference micro-kernels of split operands: the plain loops over a tile, part by part. */
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

/* The product of two words: of their low halves and of their high halves. */
static float times(const float *a, const float *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return we_bf16_to_f32((uint16_t)x) * we_bf16_to_f32((uint16_t)y) +
           we_bf16_to_f32((uint16_t)(x >> 16)) * we_bf16_to_f32((uint16_t)(y >> 16));
}

/* Word `w` of a row of part `part` of b. */
static const float *word_of(const we_tile *t, int32_t parts, int64_t w, int32_t part) {
    int64_t chunk = parts == 1 ? w : (w / WE_PART_WORDS * parts + part) * WE_PART_WORDS + w % WE_PART_WORDS;
    return t->b + chunk * COLUMNS;
}

static float add_products(const we_tile *t, int32_t parts, int32_t i, int32_t j, int32_t p, int32_t q,
                          float sum) {
    for (int64_t w = 0; w < t->depth; w++)
        sum += times(&t->rows[p * t->m + i][w], word_of(t, parts, w, q) + j);
    return sum;
}

/* The smallest products first, so that they are not rounded off in the shadow of the larger. */
static void multiply(const we_tile *t, int32_t parts) {
    for (int32_t i = 0; i < t->m; i++) {
        for (int32_t j = 0; j < t->n; j++) {
            float sum = 0;
            for (int32_t least = parts - 1; least >= 0; least--) {
                for (int32_t p = 0; p <= least; p++)
                    sum = add_products(t, parts, i, j, p, least - p, sum);
            }
            sum += start_of(t, i, j);
            sum += t->residual ? t->residual[i * t->ldc + j] : 0;
            sum = sum < t->low ? t->low : sum;
            t->c[i * t->ldc + j] = sum > t->high ? t->high : sum;
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
