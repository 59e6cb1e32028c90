/* Rows of bytes as plain loops for one instruction set. Before including define ROWS_OF(name), the kernel's
 * name. */
#include <math.h>

#include "kernels/kernels.h"

static inline float kept(float value, const we_byte_range *range) {
    value = value > range->low ? value : range->low;
    return value < range->high ? value : range->high;
}

static inline uint8_t stored(float value, const we_byte_range *range) {
    return (uint8_t)((int32_t)rintf(kept(value, range)) + range->zero);
}

void ROWS_OF(quantise)(int64_t n, float scale, const we_byte_range *range, const float *x, uint8_t *y) {
    const we_byte_range own = *range; /* a copy that no store to y can change */
    for (int64_t i = 0; i < n; i++)
        y[i] = stored(x[i] / scale, &own);
}

void ROWS_OF(dequantise)(int64_t n, int32_t zero, uint8_t flip, float scale, const uint8_t *x, float *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)((int32_t)(x[i] ^ flip) - zero) * scale;
}

void ROWS_OF(add)(int64_t n, const we_byte_sum *how, const uint8_t *a, const uint8_t *b, uint8_t *y) {
    const we_byte_sum own = *how;
    for (int64_t i = 0; i < n; i++) {
        float left = (float)((int32_t)(a[i] ^ own.a_flip) - own.a_zero) * own.a_factor;
        float right = (float)((int32_t)(b[i] ^ own.b_flip) - own.b_zero) * own.b_factor;
        y[i] = stored(left + right, &own.range);
    }
}

void ROWS_OF(requantise)(int64_t n, float factor, const we_byte_range *range, const int32_t *sums,
                         uint8_t *y) {
    const we_byte_range own = *range;
    for (int64_t i = 0; i < n; i++)
        y[i] = stored((float)sums[i] * factor, &own);
}

void ROWS_OF(sum)(int64_t n, int64_t count, int64_t step, uint8_t flip, const uint8_t *x, int32_t *sums) {
    for (int64_t i = 0; i < count; i++, x += step) {
        for (int64_t j = 0; j < n; j++)
            sums[j] += x[j] ^ flip;
    }
}

void ROWS_OF(largest)(int64_t n, int64_t count, uint8_t flip, const uint8_t *x, int64_t x_step, uint8_t *y,
                      int64_t y_step) {
    for (int64_t i = 0; i < count; i++, x += x_step, y += y_step) {
        for (int64_t j = 0; j < n; j++) {
            uint8_t a = x[j] ^ flip, b = y[j] ^ flip;
            y[j] = (uint8_t)((a > b ? a : b) ^ flip);
        }
    }
}
