#include "kernels/simd/neonbf16.h"

#define KERNEL we_bf16_window_max__neonbf16
#include "kernels/simd/window.h"
