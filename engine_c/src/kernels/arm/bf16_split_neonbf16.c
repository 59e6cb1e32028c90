#include "kernels/kernels.h"
#include "kernels/simd/split_neonbf16.h"

uint32_t we_bf16_split__neonbf16(int32_t parts, int64_t n, const float *x, int64_t words, float *to,
                                 int64_t part) {
    return parts == 1 ? split(1, n, x, words, to, part) : split(parts, n, x, words, to, part);
}

uint32_t we_bf16_pair__neonbf16(int32_t parts, int64_t n, const float *even, const float *odd, float *to,
                                int64_t part) {
    return parts == 1 ? pair(1, n, even, odd, to, part) : pair(parts, n, even, odd, to, part);
}
