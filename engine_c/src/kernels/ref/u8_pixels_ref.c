#define IMAGE(name) we_image_##name##__ref
#include "kernels/ref/pixels_template.h"
