/* Shape functions of the widely used operators, and the table of all (see shapes.h). */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"
#include "ops/shapes.h"

void we_shape_set(we_tensor *out, we_dtype dtype, int32_t rank, const int64_t *dims) {
    out->dtype = dtype;
    out->rank = rank;
    if (rank)
        memmove(out->dims, dims, (size_t)rank * sizeof *dims);
}

we_status we_shape_too_many_dims(const we_call *call) {
    return WE_CALL_FAIL(call, WE_UNSUPPORTED, "the result has more than %d dims", WE_MAX_RANK);
}

we_status we_shape_none(const we_call *call, we_tensor *out) {
    (void)out;
    return WE_CALL_FAIL(call, WE_INVALID_MODEL, "this operator is internal");
}

we_status we_shape_module(const we_call *call, we_tensor *out) {
    (void)out;
    return WE_CALL_FAIL(call, WE_UNSUPPORTED, "%s has no place inside one program",
                        we_op_name(call->node->op));
}

we_status we_shape_same(const we_call *call, we_tensor *out) {
    we_shape_set(out, call->in[0]->dtype, call->in[0]->rank, call->in[0]->dims);
    return WE_OK;
}

we_status we_shape_join(const we_call *call, const we_tensor *next, we_tensor *out) {
    if (!we_broadcast(out->rank, out->dims, next->rank, next->dims, &out->rank, out->dims))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the shapes of the inputs do not broadcast together");
    return WE_OK;
}

we_status we_shape_broadcast(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    for (int32_t i = 1; i < call->node->input_count; i++) {
        if (!call->in[i])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d is required", (int)i);
        if (call->in[i]->dtype != out->dtype)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                                "inputs of different types (%s and %s): insert a Cast",
                                we_dtype_name(out->dtype), we_dtype_name(call->in[i]->dtype));
        WE_TRY(we_shape_join(call, call->in[i], out));
    }
    return WE_OK;
}

we_status we_shape_power(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    return we_shape_join(call, call->in[1], out);
}

we_status we_shape_compare(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_broadcast(call, out));
    out->dtype = WE_BOOL;
    return WE_OK;
}

we_status we_shape_select(const we_call *call, we_tensor *out) {
    if (call->in[0]->dtype != WE_BOOL)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the condition must be BOOL");
    if (call->in[1]->dtype != call->in[2]->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the two choices have different types");
    we_shape_set(out, call->in[1]->dtype, call->in[1]->rank, call->in[1]->dims);
    WE_TRY(we_shape_join(call, call->in[2], out));
    return we_shape_join(call, call->in[0], out);
}

we_status we_shape_matmul(const we_call *call, we_tensor *out) {
    const we_tensor *a = call->in[0], *b = call->in[1];
    if (a->dtype != b->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "inputs of different types: insert a Cast");
    if (a->rank < 1 || b->rank < 1)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a scalar has no matrix product");
    int64_t a_depth = a->dims[a->rank - 1], b_depth = b->dims[b->rank == 1 ? 0 : b->rank - 2];
    if (a_depth != b_depth)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the inner dims differ: %lld and %lld",
                            (long long)a_depth, (long long)b_depth);
    out->dtype = a->dtype;
    int32_t a_batch = a->rank > 2 ? a->rank - 2 : 0, b_batch = b->rank > 2 ? b->rank - 2 : 0;
    if (!we_broadcast(a_batch, a->dims, b_batch, b->dims, &out->rank, out->dims))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the batch dims do not broadcast together");
    if (a->rank > 1)
        out->dims[out->rank++] = a->dims[a->rank - 2];
    if (b->rank > 1)
        out->dims[out->rank++] = b->dims[b->rank - 1];
    return WE_OK;
}

we_status we_shape_gemm(const we_call *call, we_tensor *out) {
    const we_tensor *a = call->in[0], *b = call->in[1], *c = we_call_input(call, 2);
    if (a->rank != 2 || b->rank != 2 || a->dtype != b->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "two matrices of one type are required");
    bool ta = we_node_int(call->node, "transA", 0), tb = we_node_int(call->node, "transB", 0);
    if (a->dims[!ta] != b->dims[tb])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the inner dims differ: %lld and %lld",
                            (long long)a->dims[!ta], (long long)b->dims[tb]);
    int64_t dims[2] = {a->dims[ta], b->dims[!tb]};
    we_shape_set(out, a->dtype, 2, dims);
    if (!c)
        return WE_OK;
    if (c->dtype != a->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the bias has another type");
    we_tensor joined = *out;
    WE_TRY(we_shape_join(call, c, &joined));
    if (joined.rank != 2 || joined.dims[0] != dims[0] || joined.dims[1] != dims[1])
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the bias does not broadcast to the product");
    return WE_OK;
}

we_status we_shape_reduce(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    we_axes axes;
    WE_TRY(we_call_axes(call, &axes));
    out->dtype = x->dtype;
    out->rank = 0;
    for (int32_t i = 0; i < x->rank; i++) {
        if (!axes.reduced[i])
            out->dims[out->rank++] = x->dims[i];
        else if (axes.keep)
            out->dims[out->rank++] = 1;
    }
    return WE_OK;
}

we_status we_shape_arg_reduce(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    int32_t axis = 0;
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", 0), x->rank, &axis));
    if (x->dims[axis] == 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the axis is empty");
    bool keep = we_node_int(call->node, "keepdims", 1) != 0;
    out->dtype = WE_I64;
    out->rank = 0;
    for (int32_t i = 0; i < x->rank; i++) {
        if (i != axis || keep)
            out->dims[out->rank++] = i == axis ? 1 : x->dims[i];
    }
    return WE_OK;
}

we_status we_shape_gather(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *indices = call->in[1];
    int32_t axis = 0;
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", 0), x->rank, &axis));
    if (indices->dtype != WE_I64 && indices->dtype != WE_I32)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the indices must be I32 or I64");
    if (x->rank - 1 + indices->rank > WE_MAX_RANK)
        return we_shape_too_many_dims(call);
    out->dtype = x->dtype;
    out->rank = 0;
    for (int32_t i = 0; i < x->rank; i++) {
        for (int32_t j = 0; i == axis && j < indices->rank; j++)
            out->dims[out->rank++] = indices->dims[j];
        if (i != axis)
            out->dims[out->rank++] = x->dims[i];
    }
    return WE_OK;
}

we_status we_shape_reshape(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    int32_t free_dim = -1;
    int64_t wanted[WE_MAX_RANK], known = 1;
    WE_TRY(we_call_ints(call, 1, wanted, WE_MAX_RANK, &out->rank));
    out->dtype = x->dtype;
    bool keep_zero = we_node_int(call->node, "allowzero", 0) != 0;
    for (int32_t i = 0; i < out->rank; i++) {
        int64_t dim = wanted[i];
        if (dim == 0 && !keep_zero) {
            if (i >= x->rank)
                return WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d copies one the input does not have",
                                    (int)i);
            dim = x->dims[i];
        }
        if (dim < -1 || (dim == -1 && free_dim >= 0) || dim > ((int64_t)1 << 46))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the wanted shape has an illegal dim (%lld)",
                                (long long)dim);
        out->dims[i] = dim;
        if (dim == -1)
            free_dim = i;
        else if (__builtin_mul_overflow(known, dim, &known))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the wanted shape is absurdly large");
    }
    if (free_dim >= 0) {
        if (known == 0 || x->count % known)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld elements do not fill the wanted shape",
                                (long long)x->count);
        out->dims[free_dim] = x->count / known;
    } else if (known != x->count) {
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld elements do not fit a shape of %lld",
                            (long long)x->count, (long long)known);
    }
    return WE_OK;
}

we_status we_shape_flatten(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    int64_t axis = we_node_int(call->node, "axis", 1), dims[2] = {1, 1};
    if (axis < -(int64_t)x->rank || axis > x->rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "axis %lld is outside rank %d", (long long)axis,
                            (int)x->rank);
    axis = axis < 0 ? axis + x->rank : axis;
    for (int32_t i = 0; i < x->rank; i++)
        dims[i >= axis] *= x->dims[i];
    we_shape_set(out, x->dtype, 2, dims);
    return WE_OK;
}

we_status we_shape_squeeze(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    we_axes axes;
    WE_TRY(we_call_axes(call, &axes));
    bool given = we_node_attr(call->node, "axes") || we_call_input(call, 1);
    out->dtype = x->dtype;
    out->rank = 0;
    for (int32_t i = 0; i < x->rank; i++) {
        if (given && axes.reduced[i] && x->dims[i] != 1)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d is %lld, not 1", (int)i,
                                (long long)x->dims[i]);
        if (!(axes.reduced[i] && x->dims[i] == 1))
            out->dims[out->rank++] = x->dims[i];
    }
    return WE_OK;
}

we_status we_shape_unsqueeze(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    int64_t axes[WE_MAX_RANK];
    int32_t count, from = 0;
    bool added[WE_MAX_RANK] = {false};
    WE_TRY(we_call_ints(call, 1, axes, WE_MAX_RANK, &count));
    if (x->rank + count > WE_MAX_RANK)
        return we_shape_too_many_dims(call);
    out->dtype = x->dtype;
    out->rank = x->rank + count;
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = 0;
        WE_TRY(we_call_axis(call, axes[i], out->rank, &axis));
        if (added[axis])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "axis %d is given twice", (int)axis);
        added[axis] = true;
    }
    for (int32_t i = 0; i < out->rank; i++)
        out->dims[i] = added[i] ? 1 : x->dims[from++];
    return WE_OK;
}

we_status we_shape_transpose(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    const we_attr *perm = we_node_attr(call->node, "perm");
    bool seen[WE_MAX_RANK] = {false};
    if (perm && perm->count != (size_t)x->rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "perm has %zu entries for rank %d", perm->count,
                            (int)x->rank);
    out->dtype = x->dtype;
    out->rank = x->rank;
    for (int32_t i = 0; i < x->rank; i++) {
        int64_t from = perm ? perm->integers[i] : x->rank - 1 - i;
        if (from < 0 || from >= x->rank || seen[from])
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "perm is no permutation of the axes");
        seen[from] = true;
        out->dims[i] = x->dims[from];
    }
    return WE_OK;
}

we_status we_shape_concat(const we_call *call, we_tensor *out) {
    int32_t axis = 0;
    WE_TRY(we_shape_same(call, out));
    if (!we_node_attr(call->node, "axis"))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'axis' is required");
    WE_TRY(we_call_axis(call, we_node_int(call->node, "axis", 0), out->rank, &axis));
    for (int32_t n = 1; n < call->node->input_count; n++) {
        const we_tensor *x = call->in[n];
        if (!x || x->rank != out->rank || x->dtype != out->dtype)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d has another rank or type than the first",
                                (int)n);
        for (int32_t i = 0; i < out->rank; i++) {
            if (i != axis && x->dims[i] != out->dims[i])
                return WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d differs from the first in dim %d",
                                    (int)n, (int)i);
        }
        out->dims[axis] += x->dims[axis]; /* no overflow: at most 1024 dims of at most 2^46 */
    }
    return WE_OK;
}

we_status we_shape_slice(const we_call *call, we_tensor *out) {
    we_slice slice;
    WE_TRY(we_call_slice(call, &slice));
    we_shape_set(out, call->in[0]->dtype, call->in[0]->rank, slice.size);
    return WE_OK;
}

we_status we_shape_split(const we_call *call, we_tensor *out) {
    int64_t sizes[WE_MAX_NODE_INPUTS];
    int32_t axis = 0;
    WE_TRY(we_call_split(call, &axis, sizes));
    for (int32_t i = 0; i < call->node->output_count; i++) {
        we_shape_set(&out[i], call->in[0]->dtype, call->in[0]->rank, call->in[0]->dims);
        out[i].dims[axis] = sizes[i];
    }
    return WE_OK;
}

we_status we_shape_pad(const we_call *call, we_tensor *out) {
    int64_t begin[WE_MAX_RANK], end[WE_MAX_RANK];
    WE_TRY(we_call_pads(call, begin, end));
    WE_TRY(we_shape_same(call, out));
    for (int32_t i = 0; i < out->rank; i++) {
        out->dims[i] += begin[i] + end[i];
        if (out->dims[i] < 0)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "dim %d is cropped below nothing", (int)i);
    }
    return WE_OK;
}

we_status we_shape_expand(const we_call *call, we_tensor *out) {
    int64_t wanted[WE_MAX_RANK];
    int32_t rank;
    WE_TRY(we_call_ints(call, 1, wanted, WE_MAX_RANK, &rank));
    WE_TRY(we_shape_same(call, out));
    if (!we_broadcast(out->rank, out->dims, rank, wanted, &out->rank, out->dims))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the input does not broadcast to the wanted shape");
    return WE_OK;
}

we_status we_shape_tile(const we_call *call, we_tensor *out) {
    int64_t repeats[WE_MAX_RANK];
    int32_t count;
    WE_TRY(we_call_ints(call, 1, repeats, WE_MAX_RANK, &count));
    WE_TRY(we_shape_same(call, out));
    if (count != out->rank)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%d repeats for rank %d", (int)count, (int)out->rank);
    for (int32_t i = 0; i < out->rank; i++) {
        if (repeats[i] < 0 || __builtin_mul_overflow(out->dims[i], repeats[i], &out->dims[i]))
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "repeat %d is illegal", (int)i);
    }
    return WE_OK;
}

static we_status block_size(const we_call *call, int64_t *block) {
    *block = we_node_int(call->node, "blocksize", 0);
    if (call->in[0]->rank != 4 || *block < 1 || *block > (1 << 20))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rank 4 and a positive blocksize are required");
    return WE_OK;
}

we_status we_shape_depth_to_space(const we_call *call, we_tensor *out) {
    const int64_t *d = call->in[0]->dims;
    int64_t block = 1;
    WE_TRY(block_size(call, &block));
    if (d[1] % (block * block))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "%lld channels do not split into blocks of %lld",
                            (long long)d[1], (long long)(block * block));
    int64_t dims[4] = {d[0], d[1] / (block * block), d[2] * block, d[3] * block};
    we_shape_set(out, call->in[0]->dtype, 4, dims);
    return WE_OK;
}

we_status we_shape_space_to_depth(const we_call *call, we_tensor *out) {
    const int64_t *d = call->in[0]->dims;
    int64_t block = 1;
    WE_TRY(block_size(call, &block));
    if (d[2] % block || d[3] % block)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the plane does not split into blocks of %lld",
                            (long long)block);
    int64_t dims[4] = {d[0], d[1] * block * block, d[2] / block, d[3] / block};
    we_shape_set(out, call->in[0]->dtype, 4, dims);
    return WE_OK;
}

we_status we_shape_conv(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *w = call->in[1], *bias = we_call_input(call, 2);
    int64_t group = we_node_int(call->node, "group", 1);
    we_window window;
    if (x->rank < 3 || w->rank != x->rank || w->dtype != x->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "input and weight must have one rank (3 or more) and one type");
    WE_TRY(we_call_window(call, w->dims + 2, &window));
    if (group < 1 || x->dims[1] % group || w->dims[0] % group || w->dims[1] != x->dims[1] / group)
        return WE_CALL_FAIL(
            call, WE_INVALID_MODEL, "%lld input channels, %lld x %lld weights and %lld groups do not fit",
            (long long)x->dims[1], (long long)w->dims[0], (long long)w->dims[1], (long long)group);
    if (bias && (bias->rank != 1 || bias->dims[0] != w->dims[0] || bias->dtype != x->dtype))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the bias must have one entry per output channel (%lld)",
                            (long long)w->dims[0]);
    out->dtype = x->dtype;
    out->rank = x->rank;
    out->dims[0] = x->dims[0];
    out->dims[1] = w->dims[0];
    memcpy(out->dims + 2, window.out, (size_t)window.rank * sizeof *window.out);
    return WE_OK;
}

we_status we_shape_conv_filter_gradient(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0], *gradient = call->in[1];
    int64_t group = we_node_int(call->node, "group", 1);
    we_window window;
    if (x->rank < 3 || gradient->rank != x->rank || gradient->dtype != x->dtype ||
        we_dtype_kind(x->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "input and gradient must have one rank (3 or more) and one type of floats");
    WE_TRY(we_call_window(call, NULL, &window));
    if (group < 1 || x->dims[1] % group || gradient->dims[1] % group || gradient->dims[0] != x->dims[0] ||
        memcmp(gradient->dims + 2, window.out, (size_t)window.rank * sizeof *window.out) != 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the gradient does not have the shape that this convolution of the input makes");
    out->dtype = x->dtype;
    out->rank = x->rank;
    out->dims[0] = gradient->dims[1];
    out->dims[1] = x->dims[1] / group;
    memcpy(out->dims + 2, window.kernel, (size_t)window.rank * sizeof *window.kernel);
    return WE_OK;
}

we_status we_shape_max_pool_gradient(const we_call *call, we_tensor *out) {
    we_window window;
    WE_TRY(we_call_window(call, NULL, &window));
    WE_TRY(we_shape_same(call, out));
    for (int32_t i = 1; i < 3; i++) {
        const we_tensor *made = call->in[i];
        if (made->dtype != out->dtype || made->rank != out->rank ||
            memcmp(made->dims, out->dims, 2 * sizeof *out->dims) != 0 ||
            memcmp(made->dims + 2, window.out, (size_t)window.rank * sizeof *window.out) != 0)
            return WE_CALL_FAIL(
                call, WE_INVALID_MODEL,
                "output and gradient do not have the shape that this pool of the input makes");
    }
    return we_dtype_kind(out->dtype) == 'f'
               ? WE_OK
               : WE_CALL_FAIL(call, WE_INVALID_MODEL, "a gradient of integers is not defined");
}

we_status we_shape_pool(const we_call *call, we_tensor *out) {
    we_window window;
    WE_TRY(we_call_window(call, NULL, &window));
    WE_TRY(we_shape_same(call, out));
    memcpy(out->dims + 2, window.out, (size_t)window.rank * sizeof *window.out);
    return WE_OK;
}

we_status we_shape_global_pool(const we_call *call, we_tensor *out) {
    WE_TRY(we_shape_same(call, out));
    if (out->rank < 3)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "rank 3 or more is required");
    for (int32_t i = 2; i < out->rank; i++)
        out->dims[i] = 1;
    return WE_OK;
}

we_status we_shape_shape(const we_call *call, we_tensor *out) {
    int64_t rank = call->in[0]->rank;
    int64_t start = we_node_int(call->node, "start", 0), end = we_node_int(call->node, "end", rank);
    start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
    end = end < -rank ? 0 : end < 0 ? end + rank : end > rank ? rank : end;
    int64_t dims[1] = {end > start ? end - start : 0};
    we_shape_set(out, WE_I64, 1, dims);
    return WE_OK;
}

we_status we_shape_constant(const we_call *call, we_tensor *out) {
    const we_attr *attr = call->node->attr_count == 1 ? &call->node->attrs[0] : NULL;
    if (!attr)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "exactly one value attribute is required");
    int64_t dims[1] = {(int64_t)attr->count};
    switch (attr->kind) {
    case WE_ATTR_TENSOR: {
        const we_value *value = &call->graph->values[we_names_find(&call->graph->names, attr->string)];
        we_shape_set(out, value->dtype, value->rank, value->dims);
        return WE_OK;
    }
    case WE_ATTR_FLOAT:
    case WE_ATTR_FLOATS:
        we_shape_set(out, WE_F32, attr->kind == WE_ATTR_FLOATS, dims);
        return WE_OK;
    default:
        we_shape_set(out, WE_I64, attr->kind == WE_ATTR_INTS, dims);
        return WE_OK;
    }
}

we_status we_shape_constant_of_shape(const we_call *call, we_tensor *out) {
    const we_attr *attr = we_node_attr(call->node, "value");
    WE_TRY(we_call_ints(call, 0, out->dims, WE_MAX_RANK, &out->rank));
    out->dtype = WE_F32;
    if (attr) {
        const we_value *value = &call->graph->values[we_names_find(&call->graph->names, attr->string)];
        int64_t count = 0;
        if (!we_shape_count(value->rank, value->dims, value->dtype, &count) || count != 1)
            return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the value must have one element");
        out->dtype = value->dtype;
    }
    return WE_OK;
}

static we_status (*const SHAPES[])(const we_call *, we_tensor *) = {
#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value)              \
    we_shape_##shape,
#include "ops/ops.inc"
#undef WE_OP_ROW
};

/* Texts are pointers: only operators that move them whole may see them, and nothing else may become one. */
static we_status check_texts(const we_call *call) {
    for (int32_t i = 0; i < call->node->input_count; i++) {
        if (call->in[i] && call->in[i]->dtype == WE_STRING && !we_op_moves_text(call->node->op))
            return WE_CALL_FAIL(call, WE_UNSUPPORTED, "%s does not take text", we_op_name(call->node->op));
    }
    return WE_OK;
}

static bool makes_text(const we_call *call, const we_tensor *out) {
    return out->dtype == WE_STRING && (!call->in[0] || call->in[0]->dtype != WE_STRING);
}

we_status we_shape_infer(const we_call *call, we_tensor *out) {
    WE_TRY(check_texts(call));
    WE_TRY(SHAPES[call->node->op](call, out));
    for (int32_t i = 0; i < call->node->output_count; i++) {
        if (makes_text(call, &out[i]))
            return WE_CALL_FAIL(call, WE_UNSUPPORTED, "%s does not make text", we_op_name(call->node->op));
        if (!we_shape_count(out[i].rank, out[i].dims, out[i].dtype, &out[i].count))
            return WE_CALL_FAIL(call, WE_OUT_OF_MEMORY, "the result would be absurdly large");
    }
    return WE_OK;
}
