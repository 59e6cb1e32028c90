#define REAL float
#define KERNEL we_f32_fft__ref
#define PASS we_f32_fft_pass
#include "kernels/ref/fft_template.h"
