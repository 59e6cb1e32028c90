/* Rules of operators about shapes and constants. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "geometry/lower.h"
#include "graph/opspec.h"

/* Turn output 0 into a constant with these contents. */
static void *fill_output(we_lower *l) {
    we_tensor *out = &l->program->tensors[l->out[0]];
    void *data = we_arena_new(&l->program->arena, (size_t)out->count * we_dtype_size(out->dtype));
    if (!data) {
        l->status = we_error_no_memory(l->call.err);
        return NULL;
    }
    out->kind = WE_TENSOR_CONST;
    out->data = data;
    return data;
}

void we_rule_shape(we_lower *l) {
    int64_t rank = l->call.in[0]->rank, start = we_node_int(l->call.node, "start", 0);
    start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
    int64_t *data = fill_output(l);
    for (int64_t i = 0; data && i < l->program->tensors[l->out[0]].count; i++)
        data[i] = l->call.in[0]->dims[start + i];
}

void we_rule_constant(we_lower *l) {
    const we_attr *attr = &l->call.node->attrs[0];
    we_tensor *out = &l->program->tensors[l->out[0]];
    if (attr->kind == WE_ATTR_TENSOR) {
        out->kind = WE_TENSOR_CONST;
        out->data = l->call.graph->values[we_names_find(&l->call.graph->names, attr->string)].data;
        return;
    }
    void *data = fill_output(l);
    for (int64_t i = 0; data && i < out->count; i++) {
        if (attr->kind == WE_ATTR_INT || attr->kind == WE_ATTR_INTS)
            ((int64_t *)data)[i] = attr->kind == WE_ATTR_INT ? attr->integer : attr->integers[i];
        else
            ((float *)data)[i] = (float)(attr->kind == WE_ATTR_FLOAT ? attr->real : attr->reals[i]);
    }
}

void we_rule_constant_of_shape(we_lower *l) {
    const we_attr *attr = we_node_attr(l->call.node, "value");
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_raster raster = {0};
    if (!attr) {
        we_emit_raster(l, &raster, l->out[0]);
        return;
    }
    const we_value *value = &l->call.graph->values[we_names_find(&l->call.graph->names, attr->string)];
    void *data;
    int32_t scalar = we_lower_constant(l, out.dtype, 0, NULL, &data);
    if (data)
        memcpy(data, value->data, we_dtype_size(out.dtype));
    we_box box = {.rank = 1, .size = {out.count}, .dst_stride = {1}};
    we_raster_add(l, &raster, scalar, &box);
    we_emit_raster(l, &raster, l->out[0]);
}
