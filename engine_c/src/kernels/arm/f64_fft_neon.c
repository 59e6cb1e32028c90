#define REAL double
#define KERNEL we_f64_fft__neon
#define PASS we_f64_fft_pass
#define LANES 2
#include "kernels/simd/fft.h"
