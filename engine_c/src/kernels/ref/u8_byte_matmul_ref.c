/* Reference: every element by itself. */
#include <math.h>

#include "kernels/kernels.h"

enum { COLUMNS = 4, QUAD = 4 };

static float kept(float value, const we_byte_range *range) {
    value = value > range->low ? value : range->low;
    return value < range->high ? value : range->high;
}

static int32_t sum_at(const we_byte_tile *t, int32_t i, int32_t j) {
    uint32_t sum = (uint32_t)t->start[j];
    for (int64_t r = 0; r < t->runs; r++) {
        const int8_t *b = t->b + (r * t->quads * COLUMNS + j) * QUAD;
        for (int64_t p = 0; p < t->quads * QUAD; p++)
            sum += (uint32_t)(t->rows[r * t->m + i][p] * b[p / QUAD * COLUMNS * QUAD + p % QUAD]);
    }
    return (int32_t)sum;
}

void we_u8_byte_matmul_4x4__ref(const we_byte_tile *t) {
    const we_requantise *how = t->how;
    for (int32_t i = 0; i < t->m; i++) {
        for (int32_t j = 0; j < t->n; j++) {
            const int64_t at = i * t->ldc + j;
            int32_t sum = sum_at(t, i, j);
            if (t->sums) {
                t->sums[at] = sum;
                continue;
            }
            float value = (float)sum * how->factor[j];
            value = rintf(kept(how->shift ? value + how->shift[j] : value, &how->range));
            const we_byte_range *last = &how->range;
            if (t->added) {
                last = &t->then->range;
                float other = (float)((t->added[at] ^ t->then->b_flip) - t->then->b_zero) * t->then->b_factor;
                value = rintf(kept(value * t->then->a_factor + other, last));
            }
            t->c[at] = (uint8_t)((int32_t)value + last->zero);
        }
    }
}
