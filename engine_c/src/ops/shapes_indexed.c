/* Shape functions of indexed reads and writes. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/shapes.h"

static we_status check_index(const we_call *call, const we_tensor *indices) {
    if (indices->dtype != WE_I64 && indices->dtype != WE_I32)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the indices must be I32 or I64, not %s",
                            we_dtype_name(indices->dtype));
    return WE_OK;
}

/* Indices of the data's rank, no longer than it beside the axis. */
static we_status check_elements(const we_call *call) {
    const we_tensor *x = call->in[0], *indices = call->in[1];
    int32_t axis = 0;
    WE_TRY(check_index(call, indices));
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", 0), x->rank, &axis));
    if (indices->rank != x->rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the indices have rank %d, not %d", (int)indices->rank,
                            (int)x->rank);
    for (int32_t i = 0; i < x->rank; i++) {
        if (i != axis && indices->dims[i] > x->dims[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "there are more indices than elements in dim %d",
                                (int)i);
    }
    return WE_OK;
}

we_status we_shape_gather_elements(const we_call *call, we_tensor *out) {
    WE_TRY(check_elements(call));
    we_shape_set(out, call->in[0]->dtype, call->in[1]->rank, call->in[1]->dims);
    return WE_OK;
}

we_status we_shape_scatter_elements(const we_call *call, we_tensor *out) {
    const we_tensor *indices = call->in[1], *updates = call->in[2];
    WE_TRY(check_elements(call));
    if (updates->dtype != call->in[0]->dtype || updates->rank != indices->rank ||
        memcmp(updates->dims, indices->dims, (size_t)indices->rank * sizeof *indices->dims) != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the updates must have the data's type and the indices' shape");
    return we_shape_same(call, out);
}

/* Index vectors that address dims `batch` and on of the data. */
static we_status check_vectors(const we_call *call, int64_t batch) {
    const we_tensor *x = call->in[0], *indices = call->in[1];
    WE_TRY(check_index(call, indices));
    if (indices->rank < 1 || x->rank < 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "data and indices of rank 1 or more are required");
    int64_t components = indices->dims[indices->rank - 1];
    if (batch < 0 || batch >= indices->rank || components < 1 || components > x->rank - batch)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld components of an index do not fit data of rank %d",
                            (long long)components, (int)x->rank);
    for (int32_t i = 0; i < batch; i++) {
        if (indices->dims[i] != x->dims[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "batch dim %d differs", (int)i);
    }
    return WE_OK;
}

/* The dims of the indices but the last, then those of the data that they leave whole. */
static we_status slices_shape(const we_call *call, int64_t batch, we_tensor *out) {
    const we_tensor *x = call->in[0], *indices = call->in[1];
    int32_t whole = (int32_t)(batch + indices->dims[indices->rank - 1]);
    if (indices->rank - 1 + x->rank - whole > WE_MAX_RANK)
        return we_shape_too_many_dims(call);
    we_shape_set(out, x->dtype, indices->rank - 1, indices->dims);
    for (int32_t i = whole; i < x->rank; i++)
        out->dims[out->rank++] = x->dims[i];
    return WE_OK;
}

we_status we_shape_gather_nd(const we_call *call, we_tensor *out) {
    int64_t batch = we_node_int(call->node, "batch_dims", 0);
    WE_TRY(check_vectors(call, batch));
    return slices_shape(call, batch, out);
}

we_status we_shape_scatter_nd(const we_call *call, we_tensor *out) {
    const we_tensor *updates = call->in[2];
    we_tensor wanted = {0};
    WE_TRY(check_vectors(call, 0));
    WE_TRY(slices_shape(call, 0, &wanted));
    if (updates->dtype != call->in[0]->dtype || updates->rank != wanted.rank ||
        memcmp(updates->dims, wanted.dims, (size_t)wanted.rank * sizeof *wanted.dims) != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the updates must have the data's type and a slice of it per index");
    return we_shape_same(call, out);
}

we_status we_shape_tensor_scatter(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *updates = call->in[1], *index = we_call_input(call, 2);
    int32_t axis = 0;
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", -2), x->rank, &axis));
    if (axis == 0 || updates->rank != x->rank || updates->dtype != x->dtype)
        return WE_CALL_FAIL(
            call, WE_INVALID_MODEL,
            "an axis behind the first, and updates of the cache's rank and type are required");
    for (int32_t i = 0; i < x->rank; i++) {
        if (i == axis ? updates->dims[i] > x->dims[i] : updates->dims[i] != x->dims[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the updates do not fit the cache in dim %d", (int)i);
    }
    if (index && (index->dtype != WE_I64 || index->rank != 1 || index->dims[0] != x->dims[0]))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "one I64 index per batch is required");
    return we_shape_same(call, out);
}

we_status we_shape_reverse_sequence(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *lengths = call->in[1];
    int64_t batch = we_node_int(call->node, "batch_axis", 1), time = we_node_int(call->node, "time_axis", 0);
    if (x->rank < 2 || batch < 0 || time < 0 || batch > 1 || time > 1 || batch == time)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "batch_axis and time_axis must be 0 and 1 or 1 and 0");
    if (lengths->dtype != WE_I64 || lengths->rank != 1 || lengths->dims[0] != x->dims[batch])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "one I64 length per batch is required");
    return we_shape_same(call, out);
}
