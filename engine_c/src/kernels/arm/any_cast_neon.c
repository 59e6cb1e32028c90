#define ISA neon
#define OWN_HALVES
#include "kernels/ref/cast_template.h"
#include "kernels/simd/cast_neon.h"

void we_f16_cast_f32__neon(int64_t n, const void *in, void *out) {
    widen_halves(n, in, out);
}

void we_f32_cast_f16__neon(int64_t n, const void *in, void *out) {
    narrow_to_halves(n, in, out);
}
