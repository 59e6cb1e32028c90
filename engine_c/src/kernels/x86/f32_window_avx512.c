#include "kernels/simd/avx512.h"

#define KERNEL we_f32_window_max__avx512
#include "kernels/simd/window.h"
