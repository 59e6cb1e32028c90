/* Rules of running sums and products. */
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"

/* x moved by `distance` towards the end of the axis (or the beginning), `fill` coming in. */
static int32_t shifted(we_lower *l, int32_t x, int32_t axis, int64_t distance, bool reverse, double fill) {
    we_tensor from = we_lower_tensor(l, x);
    we_box box = {.rank = from.rank};
    we_raster raster = {.fill = fill};
    int32_t out = we_lower_temp(l, from.dtype, from.rank, from.dims);
    if (l->status != WE_OK)
        return out;
    memcpy(box.size, from.dims, sizeof from.dims);
    we_strides(from.rank, from.dims, box.src_stride);
    we_strides(from.rank, from.dims, box.dst_stride);
    box.size[axis] -= distance;
    *(reverse ? &box.src_offset : &box.dst_offset) = distance * box.dst_stride[axis];
    we_raster_add(l, &raster, x, &box);
    we_emit_raster(l, &raster, out);
    return out;
}

/* Doubling steps: after those of 1, 2, 4 ... each element holds the result over as many before it. */
static void scan(we_lower *l, we_binary_fn fn, double identity) {
    const we_node *node = l->call.node;
    int64_t given = 0;
    int32_t count, axis = 0, x = l->in[0];
    l->status = we_call_ints(&l->call, 1, &given, 1, &count);
    if (l->status == WE_OK)
        l->status = we_call_axis(&l->call, given, l->call.in[0]->rank, &axis);
    if (l->status != WE_OK)
        return;
    we_dtype dtype = l->call.in[0]->dtype;
    bool half = dtype == WE_F16 || dtype == WE_BF16, reverse = we_node_int(node, "reverse", 0) != 0;
    int64_t n = l->call.in[0]->dims[axis];
    if (half)
        x = we_emit_cast(l, x, WE_F32, WE_NEW);
    if (we_node_int(node, "exclusive", 0) != 0 && n > 0)
        x = shifted(l, x, axis, 1, reverse, identity);
    for (int64_t distance = 1; distance < n; distance *= 2)
        x = we_emit_binary(l, fn, x, shifted(l, x, axis, distance, reverse, identity), WE_NEW);
    if (half)
        x = we_emit_cast(l, x, dtype, WE_NEW);
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_emit_reshape(l, x, out.rank, out.dims, l->out[0]);
}

void we_rule_cum_sum(we_lower *l) {
    scan(l, WE_BINARY_Add, 0);
}

void we_rule_cum_prod(we_lower *l) {
    scan(l, WE_BINARY_Mul, 1);
}
