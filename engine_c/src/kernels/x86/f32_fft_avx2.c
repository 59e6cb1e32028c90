#define REAL float
#define KERNEL we_f32_fft__avx2
#define PASS we_f32_fft_pass
#define LANES 8
#include "kernels/simd/fft.h"
