/* Kernels of quantised tensors, whose elements are bytes: q stands for (q - zero point) * scale. A tensor of
 * int8 is read as one of uint8 with `flip` = 0x80, by which each byte is changed on the way (q + 128 then,
 * and so is its zero point); a result is the low byte of a number that fits the type. */
#ifndef WE_KERNELS_BYTES_H
#define WE_KERNELS_BYTES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu.h"

/* What stands in the place of a real number: kept within [low, high], rounded to the nearest integer, ties to
 * even, and `zero` added. The limits are integers, so that it is the same to round first. */
typedef struct we_byte_range {
    float low, high;
    int32_t zero;
} we_byte_range;

/* y = range of (a - a_zero) * a_factor + (b - b_zero) * b_factor: two products and a sum of float32. */
typedef struct we_byte_sum {
    int32_t a_zero, b_zero;
    float a_factor, b_factor;
    uint8_t a_flip, b_flip;
    we_byte_range range;
} we_byte_sum;

/* How the int32 sums of a product or filter become bytes: range of sum * factor[j] + shift[j], products and
 * sums of float32. shift: NULL where there is none. */
typedef struct we_requantise {
    const float *factor, *shift; /* per column or channel */
    we_byte_range range;
} we_requantise;

/* One tile of a product of bytes, read as we_tile reads float32: k = runs * quads * 4, and
 *   sum[i, j] = start[j] + sum over r < runs, p < quads * 4 of rows[r * m + i][p] * b[r * quads * 4 + p, j]
 * modulo 2^32 for i < m <= the kernel's rows and j < n <= its columns. b is [runs][quads][columns][4], zeros
 * past n; start, factor and shift have room for all columns. The result is `sums`, or bytes in `c`; where
 * `added` is not NULL, what `how` makes of the sums is the a of `then`, without its zero, and `added`, laid
 * out as c, its b. No alignment; nothing overlaps. */
typedef struct we_byte_tile {
    int64_t runs, quads;
    const uint8_t *const *rows; /* [runs][m]; of int8 where the kernel is `signed_rows` */
    const int8_t *b;
    const int32_t *start;
    int32_t m, n;
    int32_t *sums; /* NULL: bytes */
    uint8_t *c;
    int64_t ldc; /* elements between rows of either */
    const we_requantise *how;
    const we_byte_sum *then;
    const uint8_t *added;
    const int8_t *ahead; /* `runs * quads` cache lines from here on are wanted soon; any address will do */
} we_byte_tile;
typedef void (*we_byte_kernel)(const we_byte_tile *tile);

typedef struct we_byte_matmul {
    const char *name;
    we_isa isa;
    int32_t rows, columns; /* of a tile: at most WE_TILE_ROWS, WE_TILE_COLUMNS */
    bool signed_rows;
    we_byte_kernel kernel;
} we_byte_matmul;

/* A stretch of outputs that each see one window of their own channel: output i is y[i * y_step + c] and its
 * tap (row, column) sees rows[row][i * x_step + column * x_column + c], all of which may be read:
 *   sum = start[c] + sum over taps of its element * weights[(row * columns + column) * channels + c].
 * No alignment; nothing overlaps. */
typedef struct we_byte_depthwise {
    int64_t channels, count;
    int32_t row_count, columns; /* of taps */
    int64_t x_step, x_column, y_step;
    uint8_t flip;
    const int8_t *weights;
    const int32_t *start;
    we_requantise how;
} we_byte_depthwise;
typedef void (*we_byte_depthwise_kernel)(const we_byte_depthwise *filter, const uint8_t *const *rows,
                                         uint8_t *y);

/* Rows of elements; y may be an operand where elements are of one size. */
typedef struct we_byte_rows {
    /* y = range of x / scale */
    void (*quantise)(int64_t n, float scale, const we_byte_range *range, const float *x, uint8_t *y);
    /* y = ((x changed by flip) - zero) * scale */
    void (*dequantise)(int64_t n, int32_t zero, uint8_t flip, float scale, const uint8_t *x, float *y);
    void (*add)(int64_t n, const we_byte_sum *how, const uint8_t *a, const uint8_t *b, uint8_t *y);
    /* y = range of sums * factor */
    void (*requantise)(int64_t n, float factor, const we_byte_range *range, const int32_t *sums, uint8_t *y);
    /* sums[j] += the sum over i < count of x[i * step + j], changed by flip, for j < n */
    void (*sum)(int64_t n, int64_t count, int64_t step, uint8_t flip, const uint8_t *x, int32_t *sums);
    /* y[i * y_step + j] = the larger of that and x[i * x_step + j], both changed by flip, for i < count, j <
     * n */
    void (*largest)(int64_t n, int64_t count, uint8_t flip, const uint8_t *x, int64_t x_step, uint8_t *y,
                    int64_t y_step);
} we_byte_rows;

#endif
