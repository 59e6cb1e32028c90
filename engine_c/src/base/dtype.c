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
