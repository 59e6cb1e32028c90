/* Pixels for this instruction set; image.inc says what each function does. */
#include "kernels/simd/bytes_avx2.h"

#define IMAGE(name) we_image_##name##__avx2
#include "kernels/simd/image_pixels.h"
