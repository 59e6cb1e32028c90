/* Rules of operators that only move elements: each is one raster. */
#include <string.h>

#include "geometry/lower.h"

/* A box over all of `dims` with row-major source strides taken from `from` and destination strides from `to`.
 */
static we_box box_of(int32_t rank, const int64_t *size, const int64_t *from, const int64_t *to) {
    we_box box = {.rank = rank};
    memcpy(box.size, size, (size_t)rank * sizeof *size);
    we_strides(rank, from, box.src_stride);
    we_strides(rank, to, box.dst_stride);
    return box;
}

void we_rule_alias(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_emit_reshape(l, l->in[0], out.rank, out.dims, l->out[0]);
}

void we_rule_transpose(we_lower *l) {
    const we_attr *attr = we_node_attr(l->call.node, "perm");
    int32_t perm[WE_MAX_RANK], rank = l->call.in[0]->rank;
    for (int32_t i = 0; i < rank; i++)
        perm[i] = attr ? (int32_t)attr->integers[i] : rank - 1 - i;
    we_emit_transpose(l, l->in[0], perm, l->out[0]);
}

void we_rule_concat(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_raster raster = {0};
    int32_t axis = 0;
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", 0), out.rank, &axis);
    int64_t reached = 0;
    for (int32_t i = 0; i < l->call.node->input_count; i++) {
        const we_tensor *x = l->call.in[i];
        we_box box = box_of(x->rank, x->dims, x->dims, out.dims);
        box.dst_offset = reached * box.dst_stride[axis];
        reached += x->dims[axis];
        we_raster_add(l, &raster, l->in[i], &box);
    }
    we_emit_raster(l, &raster, l->out[0]);
}

void we_rule_slice(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_slice slice;
    we_raster raster = {0};
    l->status = we_call_slice(&l->call, &slice);
    if (l->status != WE_OK)
        return;
    we_box box = box_of(x->rank, slice.size, x->dims, slice.size);
    for (int32_t i = 0; i < x->rank; i++) {
        box.src_offset += slice.start[i] * box.src_stride[i];
        box.src_stride[i] = slice.size[i] > 1 ? box.src_stride[i] * slice.step[i] : 0;
    }
    we_raster_add(l, &raster, l->in[0], &box);
    we_emit_raster(l, &raster, l->out[0]);
}

void we_rule_split(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int64_t reached = 0;
    int32_t axis = 0;
    int64_t *sizes = we_arena_new(&l->program->arena, (size_t)l->call.node->output_count * sizeof *sizes);
    if (!sizes) {
        we_lower_fail(l, WE_OUT_OF_MEMORY, "out of memory");
        return;
    }
    l->status = we_call_split(&l->call, &axis, sizes);
    for (int32_t i = 0; i < l->call.node->output_count && l->status == WE_OK; i++) {
        we_raster raster = {0};
        int64_t dims[WE_MAX_RANK];
        memcpy(dims, x->dims, sizeof dims);
        dims[axis] = sizes[i];
        we_box box = box_of(x->rank, dims, x->dims, dims);
        box.src_offset = reached * box.src_stride[axis];
        reached += sizes[i];
        we_raster_add(l, &raster, l->in[0], &box);
        we_emit_raster(l, &raster, l->out[i]);
    }
}

void we_rule_expand(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int64_t padded[WE_MAX_RANK];
    we_raster raster = {0};
    for (int32_t i = 0; i < out.rank; i++)
        padded[i] = i < out.rank - x->rank ? 1 : x->dims[i - (out.rank - x->rank)];
    we_box box = box_of(out.rank, out.dims, padded, out.dims);
    for (int32_t i = 0; i < out.rank; i++)
        box.src_stride[i] = padded[i] == 1 ? 0 : box.src_stride[i];
    we_raster_add(l, &raster, l->in[0], &box);
    we_emit_raster(l, &raster, l->out[0]);
}

/* Dim i of the output is (repeat, position): two loop dims, the first of source stride 0. */
void we_rule_tile(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_box plain = box_of(x->rank, x->dims, x->dims, out.dims), box = {.rank = 2 * x->rank};
    we_raster raster = {0};
    for (int32_t i = 0; i < x->rank; i++) {
        box.size[2 * i] = x->dims[i] ? out.dims[i] / x->dims[i] : 0;
        box.dst_stride[2 * i] = plain.dst_stride[i] * x->dims[i];
        box.size[2 * i + 1] = x->dims[i];
        box.src_stride[2 * i + 1] = plain.src_stride[i];
        box.dst_stride[2 * i + 1] = plain.dst_stride[i];
    }
    we_raster_add(l, &raster, l->in[0], &box);
    we_emit_raster(l, &raster, l->out[0]);
}

/* Both block moves permute six dims; names as in the ONNX specification. */
static void move_blocks(we_lower *l, const int64_t *dims, const int32_t *perm) {
    int64_t strides[6];
    we_box box = {.rank = 6};
    we_raster raster = {0};
    we_strides(6, dims, strides);
    for (int32_t i = 0; i < 6; i++) {
        box.size[i] = dims[perm[i]];
        box.src_stride[i] = strides[perm[i]];
    }
    we_strides(6, box.size, box.dst_stride);
    we_raster_add(l, &raster, l->in[0], &box);
    we_emit_raster(l, &raster, l->out[0]);
}

void we_rule_depth_to_space(we_lower *l) {
    const int64_t *d = l->call.in[0]->dims;
    int64_t b = we_node_int(l->call.node, "blocksize", 1);
    const char *mode = we_node_string(l->call.node, "mode", "DCR");
    if (strcmp(mode, "CRD") == 0) {
        int64_t dims[6] = {d[0], d[1] / (b * b), b, b, d[2], d[3]};
        move_blocks(l, dims, (int32_t[6]){0, 1, 4, 2, 5, 3});
    } else if (strcmp(mode, "DCR") == 0) {
        int64_t dims[6] = {d[0], b, b, d[1] / (b * b), d[2], d[3]};
        move_blocks(l, dims, (int32_t[6]){0, 3, 4, 1, 5, 2});
    } else {
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'mode' must be 'DCR' or 'CRD'");
    }
}

void we_rule_space_to_depth(we_lower *l) {
    const int64_t *d = l->call.in[0]->dims;
    int64_t b = we_node_int(l->call.node, "blocksize", 1);
    const char *mode = we_node_string(l->call.node, "mode", "DCR");
    int64_t dims[6] = {d[0], d[1], d[2] / b, b, d[3] / b, b};
    if (strcmp(mode, "CRD") == 0)
        move_blocks(l, dims, (int32_t[6]){0, 1, 3, 5, 2, 4});
    else if (strcmp(mode, "DCR") == 0)
        move_blocks(l, dims, (int32_t[6]){0, 3, 5, 1, 2, 4});
    else
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'mode' must be 'DCR' or 'CRD'");
}

/* The middle of the input meets the middle of the output along every dim. */
void we_rule_center_crop_pad(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_box box = box_of(x->rank, x->dims, x->dims, out.dims);
    we_raster raster = {0};
    for (int32_t i = 0; i < x->rank; i++) {
        int64_t more = x->dims[i] - out.dims[i];
        if (more > 0)
            box.src_offset += more / 2 * box.src_stride[i];
        else
            box.dst_offset += -more / 2 * box.dst_stride[i];
        box.size[i] = more > 0 ? out.dims[i] : x->dims[i];
    }
    we_raster_add(l, &raster, l->in[0], &box);
    we_emit_raster(l, &raster, l->out[0]);
}
