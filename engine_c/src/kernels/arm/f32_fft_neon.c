#define REAL float
#define KERNEL we_f32_fft__neon
#define PASS we_f32_fft_pass
#define LANES 4
#include "kernels/simd/fft.h"
