#include "kernels/kernels.h"
#include "kernels/simd/square_avx512.h"

/* What is left at the edges; apart, so that whole squares have constant bounds. */
static void turn_part(int32_t rows, int32_t columns, const float *in, int64_t in_row, float *out,
                      int64_t out_row) {
    turn_square(rows, columns, in, in_row, out, out_row);
}

void we_u32_transpose__avx512(int64_t rows, int64_t columns, const uint32_t *from, int64_t in_row,
                              uint32_t *to, int64_t out_row) {
    const float *in = (const float *)from;
    float *out = (float *)to;
    for (int64_t i = 0; i < rows; i += SIDE) {
        for (int64_t j = 0; j < columns; j += SIDE) {
            const float *square = in + j * in_row + i;
            if (rows - i >= SIDE && columns - j >= SIDE)
                turn_square(SIDE, SIDE, square, in_row, out + i * out_row + j, out_row);
            else
                turn_part(rows - i < SIDE ? (int32_t)(rows - i) : SIDE,
                          columns - j < SIDE ? (int32_t)(columns - j) : SIDE, square, in_row,
                          out + i * out_row + j, out_row);
        }
    }
}
