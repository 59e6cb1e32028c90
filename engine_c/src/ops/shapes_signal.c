/* Shape functions of Resize, of tables, and of transforms of signals. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "ops/shapes.h"

enum {
    LARGEST = 1 << 26, /* table extents past this are nonsense */
};

static we_status resized(const we_call *call, int32_t scales_input, we_tensor *out) {
    we_resize resize;
    WE_TRY(we_call_resize(call, scales_input, &resize));
    out->dtype = call->in[0]->dtype;
    out->rank = call->in[0]->rank;
    memcpy(out->dims, resize.out, sizeof out->dims);
    return WE_OK;
}

we_status we_shape_resize(const we_call *call, we_tensor *out) {
    return resized(call, 2, out);
}

we_status we_shape_upsample(const we_call *call, we_tensor *out) {
    return resized(call, 1, out);
}

/* A constant whole number of at least `least`. */
static we_status whole(const we_call *call, int32_t input, int64_t least, int64_t *out) {
    int32_t count;
    WE_TRY(we_call_ints(call, input, out, 1, &count));
    if (count != 1 || *out < least || *out > LARGEST)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d must be one whole number of at least %lld",
                            (int)input, (long long)least);
    return WE_OK;
}

we_status we_shape_window(const we_call *call, we_tensor *out) {
    out->rank = 1;
    WE_TRY(we_call_dtype(call, "output_datatype", WE_F32, &out->dtype));
    return whole(call, 0, 0, &out->dims[0]);
}

we_status we_shape_mel_weight_matrix(const we_call *call, we_tensor *out) {
    int64_t length, rate;
    double edges[2];
    out->rank = 2;
    WE_TRY(we_call_dtype(call, "output_datatype", WE_F32, &out->dtype));
    WE_TRY(whole(call, 0, 0, &out->dims[1]));
    WE_TRY(whole(call, 1, 0, &length));
    WE_TRY(whole(call, 2, 1, &rate));
    for (int32_t i = 0; i < 2; i++) {
        int32_t count;
        WE_TRY(we_call_numbers(call, 3 + i, &edges[i], 1, &count));
        if (count != 1 || !(edges[i] >= 0))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "an edge must be one frequency in hertz");
    }
    out->dims[0] = length / 2 + 1;
    if (out->dims[1] && out->dims[0] > LARGEST / out->dims[1])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the matrix would be absurdly large");
    return WE_OK;
}

we_status we_shape_affine_grid(const we_call *call, we_tensor *out) {
    const we_tensor *theta = call->in[0];
    int64_t size[WE_MAX_RANK];
    int32_t rank;
    WE_TRY(we_call_ints(call, 1, size, WE_MAX_RANK, &rank));
    int64_t dims = rank - 2;
    if ((dims != 2 && dims != 3) || theta->rank != 3 || theta->dims[0] != size[0] || theta->dims[1] != dims ||
        theta->dims[2] != dims + 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "theta must be [N, 2, 3] with 4 sizes, or [N, 3, 4] with 5");
    int64_t positions = 1;
    for (int32_t i = 2; i < rank; i++) {
        if (size[i] < 0 || size[i] > LARGEST || (positions *= size[i]) > LARGEST)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "size %d is illegal", (int)i);
    }
    out->dtype = theta->dtype;
    out->rank = rank;
    out->dims[0] = size[0];
    memcpy(out->dims + 1, size + 2, (size_t)dims * sizeof *size);
    out->dims[rank - 1] = dims;
    return WE_OK;
}
