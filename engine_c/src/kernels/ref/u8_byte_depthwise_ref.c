#include "kernels/simd/byte_depthwise.h"

void we_u8_byte_depthwise__ref(const we_byte_depthwise *d, const uint8_t *const *rows, uint8_t *y) {
    filter_plainly(d, rows, 0, y);
}
