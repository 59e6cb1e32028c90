#define IMAGE(name) we_image_##name##__neon
#include "kernels/ref/pixels_template.h"
