/* Shape functions of operators that make tensors from shapes and numbers, or look along one axis. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/shapes.h"

we_status we_shape_size(const we_call *call, we_tensor *out) {
    (void)call;
    we_shape_set(out, WE_I64, 0, NULL);
    return WE_OK;
}

we_status we_shape_eye_like(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    if (out->rank != 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a matrix is required, not rank %d", (int)out->rank);
    return we_call_dtype(call, "dtype", out->dtype, &out->dtype);
}

/* How many steps lead from start to before limit. Integers count as integers: doubles would round large ones.
 */
static we_status range_count(const we_call *call, int64_t *count) {
    const we_tensor *start = call->in[0], *limit = call->in[1], *delta = call->in[2];
    double steps;
    if (we_dtype_kind(start->dtype) == 'f') {
        steps = ceil((we_tensor_number(limit, 0) - we_tensor_number(start, 0)) / we_tensor_number(delta, 0));
    } else {
        int64_t from = we_tensor_integer(start, 0), to = we_tensor_integer(limit, 0);
        int64_t step = we_tensor_integer(delta, 0);
        if (step == 0)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a step of 0");
        bool empty = step > 0 ? to <= from : to >= from;
        uint64_t distance = step > 0 ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to;
        uint64_t stride = step > 0 ? (uint64_t)step : -(uint64_t)step;
        steps = empty ? 0 : (double)((distance - 1) / stride + 1);
    }
    if (!(steps <= 0x1p46)) /* also where it is no number */
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the range has no reasonable number of elements");
    *count = steps > 0 ? (int64_t)steps : 0;
    return WE_OK;
}

we_status we_shape_range(const we_call *call, we_tensor *out) {
    int64_t count = 0;
    for (int32_t i = 0; i < 3; i++) {
        const we_tensor *x = NULL;
        WE_TRY(we_call_known(call, i, &x));
        if (x->count != 1 || x->dtype != call->in[0]->dtype)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "three scalars of one type are required");
    }
    WE_TRY(range_count(call, &count));
    we_shape_set(out, call->in[0]->dtype, 1, &count);
    return WE_OK;
}

we_status we_shape_trilu(const we_call *call, we_tensor *out) {
    const we_tensor *k = we_call_input(call, 1);
    WE_TRY(we_shape_same(call, out));
    if (out->rank < 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rank 2 or more is required");
    if (k && (k->count != 1 || k->dtype != WE_I64))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the diagonal must be one I64");
    return WE_OK;
}

we_status we_shape_one_hot(const we_call *call, we_tensor *out) {
    const we_tensor *indices = call->in[0], *depth = NULL, *values = call->in[2];
    int32_t axis = 0;
    if (indices->rank >= WE_MAX_RANK)
        return we_shape_too_many_dims(call);
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", -1), indices->rank + 1, &axis));
    WE_TRY(we_call_known(call, 1, &depth));
    if (depth->count != 1 || values->rank != 1 || values->count != 2)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "one depth and a list of two values are required");
    double wanted = we_tensor_number(depth, 0);
    if (!(wanted >= 1 && wanted <= 0x1p40))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the depth %g is illegal", wanted);
    out->dtype = values->dtype;
    out->rank = indices->rank + 1;
    for (int32_t i = 0; i < out->rank; i++)
        out->dims[i] = i == axis ? (int64_t)wanted : indices->dims[i - (i > axis)];
    return WE_OK;
}

we_status we_shape_scan(const we_call *call, we_tensor *out) {
    int64_t axis = 0;
    int32_t count = 0, found;
    WE_TRY(we_call_ints(call, 1, &axis, 1, &count));
    if (count != 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "one axis is required");
    WE_TRY(we_call_axis(call, axis, call->in[0]->rank, &found));
    return we_shape_same(call, out);
}

we_status we_shape_along_axis(const we_call *call, we_tensor *out) {
    int32_t axis = 0;
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", -1), call->in[0]->rank, &axis));
    return we_shape_same(call, out);
}

we_status we_shape_top_k(const we_call *call, we_tensor *out) {
    int64_t k = 0;
    int32_t count = 0, axis = 0;
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", -1), call->in[0]->rank, &axis));
    WE_TRY(we_call_ints(call, 1, &k, 1, &count));
    if (count != 1 || k < 0 || k > call->in[0]->dims[axis])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld of the %lld elements are wanted", (long long)k,
                            (long long)call->in[0]->dims[axis]);
    for (int32_t i = 0; i < call->node->output_count; i++) {
        we_shape_set(&out[i], i == 0 ? call->in[0]->dtype : WE_I64, call->in[0]->rank, call->in[0]->dims);
        out[i].dims[axis] = k;
    }
    return WE_OK;
}

we_status we_shape_center_crop_pad(const we_call *call, we_tensor *out) {
    const we_attr *attr = we_node_attr(call->node, "axes");
    int64_t wanted[WE_MAX_RANK];
    int32_t count = 0;
    WE_TRY(we_shape_same(call, out));
    WE_TRY(we_call_ints(call, 1, wanted, WE_MAX_RANK, &count));
    if ((attr ? attr->count : (size_t)out->rank) != (size_t)count)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%d extents for %zu axes", (int)count,
                            attr ? attr->count : (size_t)out->rank);
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = i;
        if (attr)
            WE_TRY(we_call_axis(call, attr->integers[i], out->rank, &axis));
        if (wanted[i] < 0)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the extent %lld is illegal", (long long)wanted[i]);
        out->dims[axis] = wanted[i];
    }
    return WE_OK;
}

/* RandomNormal and RandomUniform: the shape is an attribute. */
we_status we_shape_random(const we_call *call, we_tensor *out) {
    const we_attr *shape = we_node_attr(call->node, "shape");
    if (!shape)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'shape' is required");
    if (shape->count > WE_MAX_RANK)
        return we_shape_too_many_dims(call);
    we_shape_set(out, WE_F32, (int32_t)shape->count, shape->integers);
    return we_call_dtype(call, "dtype", WE_F32, &out->dtype);
}

we_status we_shape_dropout(const we_call *call, we_tensor *out) {
    const we_tensor *training = NULL, *ratio = NULL;
    WE_TRY(we_call_known(call, 2, &training));
    if (training && (training->count != 1 || training->dtype != WE_BOOL))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "training_mode must be one BOOL");
    if (training && we_tensor_integer(training, 0)) /* otherwise the ratio does not matter */
        WE_TRY(we_call_known(call, 1, &ratio));
    if (ratio && ratio->count != 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the ratio must be a scalar");
    if (ratio && !(we_tensor_number(ratio, 0) >= 0 && we_tensor_number(ratio, 0) < 1))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the ratio must be at least 0 and below 1");
    const we_tensor *turn = we_call_input(call, 3);
    if (turn && (turn->count != 1 || turn->dtype != WE_I64))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the turn must be one I64");
    WE_TRY(we_shape_same(call, out));
    if (call->node->output_count > 1)
        we_shape_set(&out[1], WE_BOOL, out->rank, out->dims);
    return WE_OK;
}

/* Bernoulli, RandomNormalLike and RandomUniformLike: the shape is an input's. */
we_status we_shape_random_like(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    return we_call_dtype(call, "dtype", out->dtype, &out->dtype);
}

/* Rows of features to rows of targets. */
we_status we_shape_tree_ensemble(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    int64_t targets = we_node_int(call->node, "n_targets", 1), dims[2] = {1, targets};
    if (x->rank < 1 || x->rank > 2 || we_dtype_kind(x->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rows of floats are required");
    if (targets < 1 || targets > INT32_MAX)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'n_targets' must be 1 or more");
    dims[0] = x->rank == 2 ? x->dims[0] : 1;
    we_shape_set(out, x->dtype, 2, dims);
    return WE_OK;
}
