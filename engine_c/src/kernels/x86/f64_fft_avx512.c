#define REAL double
#define KERNEL we_f64_fft__avx512
#define PASS we_f64_fft_pass
#define LANES 8
#include "kernels/simd/fft.h"
