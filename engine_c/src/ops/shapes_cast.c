/* Shape functions of type conversions. */
#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/shapes.h"

we_status we_call_dtype(const we_call *call, const char *name, we_dtype fallback, we_dtype *out) {
    const char *text = we_node_string(call->node, name, NULL);
    *out = fallback;
    if (text && !we_dtype_find(text, out))
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "the type '%.30s' is unknown", text);
    if (*out == WE_DTYPE_COUNT)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute '%s' is required", name);
    return WE_OK;
}

we_status we_shape_cast(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    return we_call_dtype(call, "to", WE_DTYPE_COUNT, &out->dtype);
}

we_status we_shape_cast_like(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    out->dtype = call->in[1]->dtype;
    return WE_OK;
}

/* Bits an element really holds. */
static int bits_of(we_dtype dtype) {
    switch (dtype) {
    case WE_I4:
    case WE_U4:
    case WE_F4_E2M1:
        return 4;
    case WE_I2:
    case WE_U2:
        return 2;
    default:
        return 8 * (int)we_dtype_size(dtype);
    }
}

we_status we_shape_bit_cast(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_cast(call, out));
    if (bits_of(out->dtype) != bits_of(call->in[0]->dtype))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%s and %s have elements of different widths",
                            we_dtype_name(call->in[0]->dtype), we_dtype_name(out->dtype));
    return WE_OK;
}
