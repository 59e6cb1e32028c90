/* CausalConvWithState: a convolution per channel that sees the state of the previous step before its input.
 */
#include <string.h>

#include "base/dtype.h"
#include "geometry/window.h"

/* Copy `count` positions per row of one [rows, ...] tensor into another. */
static void move_rows(we_lower *l, we_raster *raster, int32_t from, int64_t rows, int64_t count, int64_t src,
                      int64_t src_step, int64_t dst, int64_t dst_step) {
    we_box box = {.rank = 2,
                  .size = {rows, count},
                  .src_offset = src,
                  .src_stride = {src_step, 1},
                  .dst_offset = dst,
                  .dst_stride = {dst_step, 1}};
    we_raster_add(l, raster, from, &box);
}

void we_rule_causal_conv(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int64_t rows = x->dims[0] * x->dims[1], length = x->dims[2], kernel = l->call.in[1]->dims[2];
    int64_t dims[3] = {x->dims[0], x->dims[1], length + kernel - 1};
    int32_t seen = we_lower_temp(l, x->dtype, 3, dims);
    we_raster joined = {0}, kept = {0};
    if (we_call_input(&l->call, 3))
        move_rows(l, &joined, l->in[3], rows, kernel - 1, 0, kernel - 1, 0, dims[2]);
    move_rows(l, &joined, l->in[0], rows, length, 0, length, kernel - 1, dims[2]);
    we_emit_raster(l, &joined, seen);
    if (l->call.node->output_count > 1) {
        move_rows(l, &kept, seen, rows, kernel - 1, length, dims[2], 0, kernel - 1);
        we_emit_raster(l, &kept, l->out[1]);
    }
    we_window w = {.rank = 1,
                   .kernel = {kernel},
                   .stride = {1},
                   .dilation = {1},
                   .in = {dims[2]},
                   .out = {length},
                   .taps = kernel};
    int32_t bias = we_call_input(&l->call, 2) ? l->in[2] : -1;
    bool plain = strcmp(we_node_string(l->call.node, "activation", "none"), "none") == 0;
    int32_t sums = plain ? l->out[0] : we_lower_temp(l, x->dtype, 3, x->dims);
    we_emit_conv(l, seen, l->in[1], bias, &w, x->dims[1], sums);
    if (plain)
        return;
    bool half = we_dtype_size(x->dtype) < 4; /* round once, after the product */
    int32_t wide = half ? we_emit_cast(l, sums, WE_F32, WE_NEW) : sums;
    int32_t gate = we_emit_unary(l, WE_UNARY_Sigmoid, wide, WE_NEW);
    int32_t gated = we_emit_binary(l, WE_BINARY_Mul, wide, gate, half ? WE_NEW : l->out[0]);
    if (half)
        we_emit_cast(l, gated, x->dtype, l->out[0]);
}
