/* Reference: element by element. */
#include "kernels/kernels.h"

void we_u32_transpose__ref(int64_t rows, int64_t columns, const uint32_t *in, int64_t in_row, uint32_t *out,
                           int64_t out_row) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++)
            out[i * out_row + j] = in[j * in_row + i];
    }
}
