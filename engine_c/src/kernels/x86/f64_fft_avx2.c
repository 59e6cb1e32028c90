#define REAL double
#define KERNEL we_f64_fft__avx2
#define PASS we_f64_fft_pass
#define LANES 4
#include "kernels/simd/fft.h"
