#include "kernels/simd/neon.h"

#define KERNEL we_f32_window_max__neon
#include "kernels/simd/window.h"
