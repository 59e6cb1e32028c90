#include "geometry/parts.h"

#include <math.h>
#include <string.h>

#include "base/dtype.h"

we_dtype we_wide_type(we_dtype dtype) {
    return dtype == WE_F16 || dtype == WE_BF16 ? WE_F32 : dtype;
}

int32_t we_emit_as(we_lower *l, int32_t x, we_dtype dtype) {
    return we_lower_tensor(l, x).dtype == dtype ? x : we_emit_cast(l, x, dtype, WE_NEW);
}

int32_t we_emit_wide(we_lower *l, int32_t x) {
    return we_emit_as(l, x, we_wide_type(we_lower_tensor(l, x).dtype));
}

void we_emit_store(we_lower *l, int32_t x, int32_t into) {
    we_tensor from = we_lower_tensor(l, x), to = we_lower_tensor(l, into);
    if (from.dtype == to.dtype)
        we_emit_reshape(l, x, to.rank, to.dims, into);
    else
        we_emit_cast(l, x, to.dtype, into);
}

bool we_emit_if_empty(we_lower *l) {
    if (l->call.in[0]->count != 0)
        return false;
    for (int32_t i = 0; i < l->call.node->output_count; i++) {
        we_raster nothing = {0};
        we_emit_raster(l, &nothing, l->out[i]);
    }
    return true;
}

int32_t we_emit_times(we_lower *l, int32_t x, double factor, int32_t into) {
    return we_emit_binary(l, WE_BINARY_Mul, x, we_lower_scalar(l, we_lower_tensor(l, x).dtype, factor), into);
}

int32_t we_emit_plus(we_lower *l, int32_t x, double addend, int32_t into) {
    return we_emit_binary(l, WE_BINARY_Add, x, we_lower_scalar(l, we_lower_tensor(l, x).dtype, addend), into);
}

int32_t we_emit_fill(we_lower *l, we_dtype dtype, int32_t rank, const int64_t *dims, double value) {
    int32_t into = we_lower_temp(l, dtype, rank, dims);
    we_raster raster = {.fill = value};
    we_emit_raster(l, &raster, into);
    return into;
}

int32_t we_emit_range(we_lower *l, int64_t first, int32_t rank, const int64_t *dims) {
    void *data;
    int32_t range = we_lower_constant(l, WE_I64, rank, dims, &data);
    int64_t count = data ? we_lower_tensor(l, range).count : 0;
    for (int64_t i = 0; i < count; i++)
        ((int64_t *)data)[i] = first + i;
    return range;
}

int32_t we_emit_part(we_lower *l, int32_t x, int32_t axis, int64_t start, int64_t step, int64_t size) {
    we_tensor from = we_lower_tensor(l, x);
    we_raster raster = {0};
    if (l->status != WE_OK)
        return x;
    we_box box = {.rank = from.rank};
    we_strides(from.rank, from.dims, box.src_stride);
    box.src_offset = start * box.src_stride[axis];
    box.src_stride[axis] *= step;
    from.dims[axis] = size;
    memcpy(box.size, from.dims, sizeof from.dims);
    we_strides(from.rank, from.dims, box.dst_stride);
    int32_t into = we_lower_temp(l, from.dtype, from.rank, from.dims);
    we_raster_add(l, &raster, x, &box);
    we_emit_raster(l, &raster, into);
    return into;
}

int32_t we_emit_linear(we_lower *l, int32_t x, int32_t weight) {
    we_tensor a = we_lower_tensor(l, x), b = we_lower_tensor(l, weight);
    int64_t dims[2] = {a.dims[0], b.dims[0]};
    we_matmul p = {.m = a.dims[0], .n = b.dims[0], .k = b.dims[1]};
    p.a_row = p.b_column = p.k;
    p.a_column = p.b_row = 1;
    return we_emit_matmul(l, x, weight, &p, 2, dims, WE_NEW);
}

int32_t we_emit_shifted_exp(we_lower *l, int32_t x, int32_t axis, bool masked, int32_t *shifted,
                            int32_t *sum) {
    bool reduced[WE_MAX_RANK] = {false};
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    reduced[axis] = true;
    int32_t most = we_emit_reduce(l, WE_REDUCE_Max, x, reduced, WE_NEW);
    if (masked) { /* -infinity minus itself would be NaN */
        int32_t lowest = we_lower_scalar(l, dtype, -INFINITY);
        int32_t none = we_emit_binary(l, WE_BINARY_Equal, most, lowest, WE_NEW);
        most = we_emit_select(l, none, we_lower_scalar(l, dtype, 0), most, WE_NEW);
    }
    *shifted = we_emit_binary(l, WE_BINARY_Sub, x, most, WE_NEW);
    int32_t power = we_emit_unary(l, WE_UNARY_Exp, *shifted, WE_NEW);
    *sum = we_emit_reduce(l, WE_REDUCE_Sum, power, reduced, WE_NEW);
    if (masked) { /* every sum over a row with any key is at least 1, the exp of 0 */
        int32_t zero = we_lower_scalar(l, dtype, 0), one = we_lower_scalar(l, dtype, 1);
        int32_t none = we_emit_binary(l, WE_BINARY_Equal, *sum, zero, WE_NEW);
        *sum = we_emit_select(l, none, one, *sum, WE_NEW);
    }
    return power;
}

int32_t we_emit_log_softmax(we_lower *l, int32_t x, int32_t axis, int32_t into) {
    int32_t shifted, sum;
    we_emit_shifted_exp(l, x, axis, false, &shifted, &sum);
    return we_emit_binary(l, WE_BINARY_Sub, shifted, we_emit_unary(l, WE_UNARY_Log, sum, WE_NEW), into);
}

int32_t we_emit_standardise(we_lower *l, int32_t x, const bool *reduced, double epsilon, int32_t *mean,
                            int32_t *inverse) {
    *mean = we_emit_mean(l, x, reduced, WE_NEW);
    int32_t centred = we_emit_binary(l, WE_BINARY_Sub, x, *mean, WE_NEW);
    int32_t squares = we_emit_binary(l, WE_BINARY_Mul, centred, centred, WE_NEW);
    int32_t variance = we_emit_plus(l, we_emit_mean(l, squares, reduced, WE_NEW), epsilon, WE_NEW);
    int32_t deviation = we_emit_unary(l, WE_UNARY_Sqrt, variance, WE_NEW);
    *inverse = we_emit_unary(l, WE_UNARY_Reciprocal, deviation, WE_NEW);
    return we_emit_binary(l, WE_BINARY_Mul, centred, *inverse, WE_NEW);
}
