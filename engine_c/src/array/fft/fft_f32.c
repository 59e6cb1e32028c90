#define REAL float
#define ENTRY we_fft_f32
#define KERNEL f32_fft
#define PASS we_f32_fft_pass
#include "array/fft/transform.inc"
