#include "kernels/simd/avx2.h"

#define KERNEL we_f32_window_max__avx2
#include "kernels/simd/window.h"
