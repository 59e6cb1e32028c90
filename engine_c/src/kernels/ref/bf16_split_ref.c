/* Reference splitting: part by part, element by element. */
#include <string.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

static uint32_t magnitude_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7FFFFFFF;
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* *x becomes what is left. */
static uint16_t take_part(float *x) {
    uint16_t part = we_f32_to_bf16_part(*x);
    *x -= we_bf16_to_f32(part);
    return part;
}

static void put_word(int32_t parts, float even, float odd, float *to, int64_t part) {
    for (int32_t p = 0; p < parts; p++) {
        uint32_t low = take_part(&even), word = low | (uint32_t)take_part(&odd) << 16;
        memcpy(to + p * part, &word, sizeof word);
    }
}

uint32_t we_bf16_split__ref(int32_t parts, int64_t n, const float *x, int64_t words, float *to,
                            int64_t part) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = larger(largest, magnitude_of(x[i]));
    for (int64_t w = 0; w < words; w++)
        put_word(parts, 2 * w < n ? x[2 * w] : 0, 2 * w + 1 < n ? x[2 * w + 1] : 0, to + w, part);
    return largest;
}

uint32_t we_bf16_pair__ref(int32_t parts, int64_t n, const float *even, const float *odd, float *to,
                           int64_t part) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = larger(largest, larger(magnitude_of(even[i]), magnitude_of(odd[i])));
        put_word(parts, even[i], odd[i], to + i, part);
    }
    return largest;
}
