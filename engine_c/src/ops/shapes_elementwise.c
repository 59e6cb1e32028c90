/* Shape functions of element-wise operators with types of their own. */
#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/shapes.h"

we_status we_shape_integers(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_broadcast(call, out));
    if (we_dtype_kind(out->dtype) != 'i' && we_dtype_kind(out->dtype) != 'u')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "integers are required, not %s",
                            we_dtype_name(out->dtype));
    return WE_OK;
}

we_status we_shape_test(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    if (we_dtype_kind(out->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "floats are required, not %s", we_dtype_name(out->dtype));
    out->dtype = WE_BOOL;
    return WE_OK;
}
