#define REAL double
#define ENTRY we_fft_f64
#define KERNEL f64_fft
#define PASS we_f64_fft_pass
#include "array/fft/transform.inc"
