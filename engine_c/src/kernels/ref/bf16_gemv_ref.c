/* Reference: every sum by itself, in double, of rounded numbers. */
#include <string.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

enum {
    COLUMNS = 8,
};

static double rounded(float x) {
    return we_bf16_to_f32(we_f32_to_bf16_part(x));
}

/* The even or odd half of a word. */
static double half_of(const float *word, int64_t which) {
    uint32_t bits;
    memcpy(&bits, word, sizeof bits);
    return we_bf16_to_f32((uint16_t)(bits >> 16 * which));
}

void we_bf16_gemv_8__ref(const we_gemv *g) {
    for (int64_t r = 0; r < g->rows; r++) {
        for (int32_t j = 0; j < g->count; j++) {
            double sum = g->start ? g->start[r * g->start_row + j] : 0;
            for (int64_t p = 0; p < g->k; p++)
                sum += rounded(g->x[r * g->x_row + p]) * half_of(&g->w[p / 2 * COLUMNS + j], p % 2);
            g->y[r * g->y_row + j] = (float)sum;
        }
    }
}
