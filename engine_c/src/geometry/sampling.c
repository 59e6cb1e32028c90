/* Rules of operators that read or write at places data decides, and of the determinant: each around one
 * native kernel or one loop. */
#include <string.h>

#include "base/dtype.h"
#include "geometry/window.h"

static int32_t in_type(we_lower *l, int32_t x, we_dtype dtype) {
    return we_lower_tensor(l, x).dtype == dtype ? x : we_emit_cast(l, x, dtype, WE_NEW);
}

/* The kernels compute in float32 or float64. */
static we_dtype working_type(const we_lower *l) {
    return l->call.in[0]->dtype == WE_F64 ? WE_F64 : WE_F32;
}

static int32_t working_input(we_lower *l, int32_t index) {
    return we_call_input(&l->call, index) ? in_type(l, l->in[index], working_type(l)) : -1;
}

/* Where to compute output 0, and the cast that ends it. */
static int32_t working_output(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_dtype working = working_type(l);
    return out.dtype == working ? l->out[0] : we_lower_temp(l, working, out.rank, out.dims);
}

static void finish(we_lower *l, int32_t computed) {
    if (computed != l->out[0])
        we_emit_cast(l, computed, WE_DTYPE_COUNT, l->out[0]);
}

void we_rule_grid_sample(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    const char *mode = we_node_string(l->call.node, "mode", "linear");
    const char *padding = we_node_string(l->call.node, "padding_mode", "zeros");
    we_grid_sample p = {.wide = working_type(l) == WE_F64,
                        .align_corners = we_node_int(l->call.node, "align_corners", 0) != 0,
                        .rank = x->rank - 2,
                        .channels = x->dims[1]};
    memcpy(p.size, x->dims + 2, (size_t)p.rank * sizeof *p.size);
    p.positions = we_window_positions(p.rank, l->call.in[1]->dims + 1);
    p.mode = strstr(mode, "cubic")     ? WE_SAMPLE_CUBIC
             : strstr(mode, "nearest") ? WE_SAMPLE_NEAREST
                                       : WE_SAMPLE_LINEAR;
    p.padding = strcmp(padding, "border") == 0  ? WE_PAD_BORDER
                : strcmp(padding, "zeros") == 0 ? WE_PAD_ZEROS
                                                : WE_PAD_REFLECTION;
    int32_t in[3] = {working_input(l, 0), working_input(l, 1), -1}, out = working_output(l);
    we_emit_native(l, &we_native_grid_sample, &p, sizeof p, x->dims[0] * p.positions,
                   16.0 * (double)p.channels, in, out);
    finish(l, out);
}

void we_rule_roi_align(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    const we_node *node = l->call.node;
    we_tensor out = we_lower_tensor(l, l->out[0]);
    const char *shift = we_node_string(node, "coordinate_transformation_mode", "half_pixel");
    we_roi_align p = {.wide = working_type(l) == WE_F64,
                      .half_pixel = strcmp(shift, "half_pixel") == 0,
                      .largest = strcmp(we_node_string(node, "mode", "avg"), "max") == 0,
                      .batch = x->dims[0],
                      .channels = x->dims[1],
                      .height = x->dims[2],
                      .width = x->dims[3],
                      .out_height = out.dims[2],
                      .out_width = out.dims[3],
                      .ratio = we_node_int(node, "sampling_ratio", 0),
                      .scale = we_node_float(node, "spatial_scale", 1)};
    int32_t in[3] = {working_input(l, 0), working_input(l, 1), in_type(l, l->in[2], WE_I64)};
    int32_t into = working_output(l);
    we_emit_native(l, &we_native_roi_align, &p, sizeof p, out.dims[0] * out.dims[1],
                   64.0 * (double)(p.out_height * p.out_width), in, into);
    finish(l, into);
}

void we_rule_deform_conv(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_window w;
    l->status = we_call_window(&l->call, l->call.in[1]->dims + 2, &w);
    if (l->status != WE_OK)
        return;
    we_deform p = {.wide = working_type(l) == WE_F64,
                   .rank = w.rank,
                   .channels = x->dims[1],
                   .groups = we_node_int(l->call.node, "offset_group", 1),
                   .taps = w.taps,
                   .positions = we_window_positions(w.rank, w.out)};
    memcpy(p.size, w.in, sizeof p.size);
    memcpy(p.kernel, w.kernel, sizeof p.kernel);
    memcpy(p.stride, w.stride, sizeof p.stride);
    memcpy(p.dilation, w.dilation, sizeof p.dilation);
    memcpy(p.pad, w.pad_begin, sizeof p.pad);
    memcpy(p.out, w.out, sizeof p.out);
    int32_t in[3] = {working_input(l, 0), working_input(l, 2), working_input(l, 4)};
    int64_t dims[4] = {x->dims[0], p.channels, p.taps, p.positions};
    int32_t columns = we_lower_temp(l, working_type(l), 4, dims), into = working_output(l);
    we_emit_native(l, &we_native_deform, &p, sizeof p, x->dims[0] * p.groups * p.taps,
                   16.0 * (double)(p.positions * (p.channels / p.groups)), in, columns);
    we_emit_window_product(l, working_input(l, 1), columns, working_input(l, 3),
                           we_node_int(l->call.node, "group", 1), into);
    finish(l, into);
}

/* Scatter into the extents the indices were made for, then place that at the start of the wanted ones. */
void we_rule_max_unpool(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int64_t dims[WE_MAX_RANK];
    const int64_t one = 1, count = x->count;
    l->status = we_call_unpooled(&l->call, dims);
    if (l->status != WE_OK)
        return;
    int32_t zeros = we_lower_temp(l, x->dtype, x->rank, dims);
    int32_t whole = we_lower_temp(l, x->dtype, x->rank, dims);
    we_emit_raster(l, &(we_raster){0}, zeros);
    we_loop_builder loop;
    we_loop_begin(l, &loop, 1, &count);
    int32_t from = we_loop_view_of(l, &loop, l->in[0], 1, &one, &(we_address){.stride = {1}});
    int32_t to = we_loop_view_of(l, &loop, whole, 1, &one, &(we_address){.stride = {0}});
    we_loop_move_by(l, &loop,
                    &(we_loop_index){.tensor = l->in[1],
                                     .components = 1,
                                     .at.stride = {1},
                                     .step = {1},
                                     .extent = {we_lower_tensor(l, whole).count}});
    we_loop_seed(l, &loop, whole, zeros);
    we_emit_reshape(l, from, 1, &one, to);
    we_loop_end(l, &loop);
    we_raster placed = {0};
    we_box box = {.rank = x->rank};
    we_strides(x->rank, dims, box.src_stride);
    we_strides(x->rank, out.dims, box.dst_stride);
    for (int32_t i = 0; i < x->rank; i++)
        box.size[i] = dims[i] < out.dims[i] ? dims[i] : out.dims[i];
    we_raster_add(l, &placed, whole, &box);
    we_emit_raster(l, &placed, l->out[0]);
}

/* The product of the diagonal after elimination. */
void we_rule_det(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    const bool reduced[WE_MAX_RANK] = {false, true};
    we_eliminate p = {.n = x->dims[x->rank - 1]};
    int64_t dims[2] = {out.count, p.n};
    int32_t in[3] = {in_type(l, l->in[0], WE_F64), -1, -1};
    int32_t triangle = we_lower_temp(l, WE_F64, x->rank, x->dims);
    we_emit_native(l, &we_native_eliminate, &p, sizeof p, out.count, (double)(p.n * p.n * p.n), in, triangle);
    int32_t diagonal = we_lower_temp(l, WE_F64, 2, dims);
    we_raster raster = {0};
    we_box box = {
        .rank = 2, .size = {out.count, p.n}, .src_stride = {p.n * p.n, p.n + 1}, .dst_stride = {p.n, 1}};
    we_raster_add(l, &raster, triangle, &box);
    we_emit_raster(l, &raster, diagonal);
    int32_t into = out.dtype == WE_F64 ? l->out[0] : we_lower_temp(l, WE_F64, out.rank, out.dims);
    we_emit_reduce(l, WE_REDUCE_Prod, diagonal, reduced, into);
    finish(l, into);
}
