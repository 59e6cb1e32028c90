/* Rows of images for this instruction set; image.inc says what each function does. */
#define IMAGE(name) we_image_##name##__neon
#include "kernels/simd/image_rows.h"
