/* Turning a matrix by squares in registers, to be defined as KERNEL. Include simd/square_<isa>.h before. */
#include "kernels/kernels.h"

void KERNEL(int64_t rows, int64_t columns, const uint32_t *in, int64_t in_row, uint32_t *out,
            int64_t out_row) {
    int64_t whole_rows = rows / SIDE * SIDE, whole_columns = columns / SIDE * SIDE;
    for (int64_t i = 0; i < whole_rows; i += SIDE) {
        for (int64_t j = 0; j < whole_columns; j += SIDE)
            turn_square(in + j * in_row + i, in_row, out + i * out_row + j, out_row);
    }
    we_u32_transpose__ref(whole_rows, columns - whole_columns, in + whole_columns * in_row, in_row,
                          out + whole_columns, out_row);
    we_u32_transpose__ref(rows - whole_rows, columns, in + whole_rows, in_row, out + whole_rows * out_row,
                          out_row);
}
