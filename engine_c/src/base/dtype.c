#include "base/dtype.h"

static const struct {
    const char *name, *format;
    size_t size;
    char kind;
} DTYPES[] = {
#define WE_DTYPE_ROW(name, size, kind, format) {#name, format, size, kind},
#include <walle/dtype.inc>
#undef WE_DTYPE_ROW
};

static bool known(we_dtype dtype) {
    return (unsigned)dtype < WE_DTYPE_COUNT;
}

const char *we_dtype_name(we_dtype dtype) {
    return known(dtype) ? DTYPES[dtype].name : "?";
}

const char *we_dtype_format(we_dtype dtype) {
    return known(dtype) ? DTYPES[dtype].format : "";
}

size_t we_dtype_size(we_dtype dtype) {
    return known(dtype) ? DTYPES[dtype].size : 0;
}

char we_dtype_kind(we_dtype dtype) {
    return known(dtype) ? DTYPES[dtype].kind : 0;
}

int we_dtype_find(const char *name, we_dtype *out) {
    for (int i = 0; name && i < WE_DTYPE_COUNT; i++) {
        if (strcmp(DTYPES[i].name, name) == 0) {
            *out = (we_dtype)i;
            return 1;
        }
    }
    return 0;
}

bool we_shape_count(int32_t rank, const int64_t *dims, we_dtype dtype, int64_t *count) {
    const int64_t limit = (int64_t)1 << 46;
    bool empty = false;
    int64_t product = 1;
    if (rank < 0 || rank > WE_MAX_RANK || !known(dtype))
        return false;
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 0 || dims[i] > limit)
            return false;
        if (dims[i] == 0) {
            empty = true;
        } else if (product > limit / dims[i]) {
            return false; /* also where another dim is 0: strides are products of the rest */
        } else {
            product *= dims[i];
        }
    }
    if (product > limit / (int64_t)DTYPES[dtype].size)
        return false;
    *count = empty ? 0 : product;
    return true;
}

float we_f16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = (bits >> 10) & 0x1F;
    uint32_t fraction = bits & 0x3FF;
    uint32_t wide;
    float value;
    if (exponent == 0x1F) {
        wide = sign | 0x7F800000 | fraction << 13;
    } else if (exponent != 0) {
        wide = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        value = (float)fraction * 0x1p-24f; /* zero and denormals are exact in float32 */
        memcpy(&wide, &value, sizeof wide);
        wide |= sign;
    }
    memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t we_f32_to_f16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    uint16_t sign = (uint16_t)(wide >> 16 & 0x8000);
    uint32_t magnitude = wide & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) /* 65520: rounds to infinity */
        return sign | 0x7C00;
    if (magnitude < 0x38800000) { /* below 2^-14: let float addition round to a multiple of 2^-24 */
        float small;
        uint32_t rounded;
        memcpy(&small, &magnitude, sizeof small);
        small += 0.5f;
        memcpy(&rounded, &small, sizeof rounded);
        return (uint16_t)(sign | (rounded - 0x3F000000));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xFFF + odd) >> 13));
}

uint16_t we_f32_to_bf16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    if ((wide & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(wide >> 16 | 0x40);
    return (uint16_t)((wide + 0x7FFF + (wide >> 16 & 1)) >> 16);
}
