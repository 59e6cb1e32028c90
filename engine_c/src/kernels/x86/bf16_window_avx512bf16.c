#include "kernels/simd/narrow.h"

#define KERNEL we_bf16_window_max__avx512bf16
#include "kernels/simd/window.h"
