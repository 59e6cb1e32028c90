/* What claims on quantised tensors share: reading constant scales and zero points, and where zero is. */
#ifndef WE_BACKEND_CPU_BYTES_H
#define WE_BACKEND_CPU_BYTES_H

#include "backend/cpu/cpu.h"

enum {
    WE_FLIP = 0x80,
};

static inline bool we_is_byte(const we_tensor *x) {
    return x->dtype == WE_I8 || x->dtype == WE_U8;
}
/* What makes bytes of that type unsigned, and by how much it moves their zero. */
static inline uint8_t we_byte_flip(we_dtype dtype) {
    return dtype == WE_I8 ? WE_FLIP : 0;
}

/* A constant of one element as a number; false where it is none. An input that is omitted is 0. */
bool we_byte_number(const we_call *call, int32_t input, float *out);
/* Is it of bytes, or not there? Numbers of other types (a zero point of floats) are for the parts. */
bool we_byte_input(const we_call *call, int32_t input);

/* A zero point likewise, of a tensor of that type. */
bool we_byte_zero(const we_call *call, int32_t input, int32_t *out);

/* The range of a result with that scale and zero point, and the node's `min` and `max`. */
bool we_byte_read_range(const we_call *call, int32_t scale, int32_t zero, we_byte_range *out);

#endif
