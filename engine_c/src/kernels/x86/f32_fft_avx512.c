#define REAL float
#define KERNEL we_f32_fft__avx512
#define PASS we_f32_fft_pass
#define LANES 16
#include "kernels/simd/fft.h"
