#define REAL double
#define KERNEL we_f64_fft__ref
#define PASS we_f64_fft_pass
#include "kernels/ref/fft_template.h"
