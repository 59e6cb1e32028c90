/* Rules of operators that make tensors from positions: ranges, diagonals, triangles, one-hot vectors. */
#include "base/dtype.h"
#include "geometry/lower.h"

/* 0, 1, ... n - 1 as a constant along `axis` of `rank` dims, plus `start`. */
static int32_t positions(we_lower *l, int64_t n, int32_t axis, int32_t rank, int64_t start) {
    int64_t dims[WE_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    void *data = NULL;
    dims[axis] = n;
    int32_t tensor = we_lower_constant(l, WE_I64, rank, dims, &data);
    for (int64_t i = 0; data && i < n; i++)
        ((int64_t *)data)[i] = start + i;
    return tensor;
}

void we_rule_size(we_lower *l) {
    void *data = NULL;
    int32_t size = we_lower_constant(l, WE_I64, 0, NULL, &data);
    if (data)
        *(int64_t *)data = l->call.in[0]->count;
    we_emit_reshape(l, size, 0, NULL, l->out[0]);
}

void we_rule_range(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    const we_tensor *start = l->call.in[0], *delta = l->call.in[2];
    bool real = we_dtype_kind(out.dtype) == 'f';
    void *data = NULL;
    int32_t wide = we_lower_constant(l, real ? WE_F64 : WE_I64, 1, out.dims, &data);
    for (int64_t i = 0; data && i < out.count; i++) {
        if (real)
            ((double *)data)[i] = we_tensor_number(start, 0) + (double)i * we_tensor_number(delta, 0);
        else
            ((int64_t *)data)[i] = we_tensor_integer(start, 0) + i * we_tensor_integer(delta, 0);
    }
    we_emit_cast(l, wide, out.dtype, l->out[0]);
}

void we_rule_eye_like(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int64_t rows = out.dims[0], columns = out.dims[1], k = we_node_int(l->call.node, "k", 0);
    we_raster raster = {0};
    if (k > -rows && k < columns) {
        int64_t row = k < 0 ? -k : 0, column = k > 0 ? k : 0;
        int64_t down = rows - row, across = columns - column;
        we_box box = {.rank = 1,
                      .size = {down < across ? down : across},
                      .dst_offset = row * columns + column,
                      .dst_stride = {columns + 1}};
        we_raster_add(l, &raster, we_lower_scalar(l, out.dtype, 1), &box);
    }
    we_emit_raster(l, &raster, l->out[0]);
}

/* Keep where column - row >= k (upper) or <= k (lower). */
void we_rule_trilu(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    bool upper = we_node_int(l->call.node, "upper", 1) != 0;
    int32_t row = positions(l, x->dims[x->rank - 2], 0, 2, 0);
    int32_t column = positions(l, x->dims[x->rank - 1], 0, 1, 0);
    if (we_call_input(&l->call, 1))
        row = we_emit_binary(l, WE_BINARY_Add, row, we_emit_reshape(l, l->in[1], 0, NULL, WE_NEW), WE_NEW);
    we_binary_fn inside = upper ? WE_BINARY_GreaterOrEqual : WE_BINARY_LessOrEqual;
    int32_t kept = we_emit_binary(l, inside, column, row, WE_NEW);
    we_emit_select(l, kept, l->in[0], we_lower_scalar(l, x->dtype, 0), l->out[0]);
}

/* Element i of a list as a scalar. */
static int32_t element(we_lower *l, int32_t list, int64_t i) {
    we_box box = {.rank = 0, .src_offset = i};
    we_raster raster = {0};
    int32_t scalar = we_lower_temp(l, we_lower_tensor(l, list).dtype, 0, NULL);
    we_raster_add(l, &raster, list, &box);
    we_emit_raster(l, &raster, scalar);
    return scalar;
}

/* values[1] where the position along the axis is the index, or the index counted from the end. */
void we_rule_one_hot(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), out.rank, &axis);
    if (l->status != WE_OK)
        return;
    int64_t depth = out.dims[axis], dims[WE_MAX_RANK];
    for (int32_t i = 0; i < out.rank; i++)
        dims[i] = i == axis ? 1 : out.dims[i];
    int32_t index = we_emit_cast(l, l->in[0], WE_I64, WE_NEW);
    index = we_emit_reshape(l, index, out.rank, dims, WE_NEW);
    int32_t ahead = positions(l, depth, axis, out.rank, 0),
            back = positions(l, depth, axis, out.rank, -depth);
    int32_t hit = we_emit_binary(l, WE_BINARY_Equal, index, ahead, WE_NEW);
    int32_t other = we_emit_binary(l, WE_BINARY_Equal, index, back, WE_NEW);
    hit = we_emit_binary(l, WE_BINARY_Or, hit, other, WE_NEW);
    we_emit_select(l, hit, element(l, l->in[2], 1), element(l, l->in[2], 0), l->out[0]);
}

/* 1 at the first largest element of the axis. */
void we_rule_hardmax(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", -1), x->rank, &axis);
    if (l->status != WE_OK)
        return;
    if (x->count == 0) {
        we_raster empty = {0};
        we_emit_raster(l, &empty, l->out[0]);
        return;
    }
    int32_t most = we_emit_arg(l, true, false, l->in[0], axis, WE_NEW);
    int32_t hit =
        we_emit_binary(l, WE_BINARY_Equal, positions(l, x->dims[axis], axis, x->rank, 0), most, WE_NEW);
    we_emit_cast(l, hit, x->dtype, l->out[0]);
}
