/* Between floats and whole numbers of their width, in the same order: NaN is the largest, whatever its sign,
 * and -0 and 0 have one key. flip: 0, or -1 for keys of the falling order. from and to may be one memory. */
#ifndef WE_KERNELS_SORT_KEYS_H
#define WE_KERNELS_SORT_KEYS_H

#include "kernels/kernels.h"

typedef struct we_keys {
    void (*encode_32)(int64_t n, const float *from, int32_t flip, int32_t *keys);
    void (*decode_32)(int64_t n, const int32_t *keys, int32_t flip, float *to);
    void (*encode_64)(int64_t n, const double *from, int64_t flip, int64_t *keys);
    void (*decode_64)(int64_t n, const int64_t *keys, int64_t flip, double *to);
} we_keys;

/* The best for the instruction sets in use. */
we_keys we_keys_for(const we_kernels *kernels);

#define WE_KEYS_ROW(ISA, isa)                                                                                \
    void we_encode_32__##isa(int64_t n, const float *from, int32_t flip, int32_t *keys);                     \
    void we_decode_32__##isa(int64_t n, const int32_t *keys, int32_t flip, float *to);                       \
    void we_encode_64__##isa(int64_t n, const double *from, int64_t flip, int64_t *keys);                    \
    void we_decode_64__##isa(int64_t n, const int64_t *keys, int64_t flip, double *to);
#include "kernels/sort_keys.inc"
#undef WE_KEYS_ROW

#endif
