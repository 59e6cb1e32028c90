#define ROWS_OF(name) we_u8_rows_##name##__neon
#include "kernels/simd/byte_rows.h"
