#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/ops.h"

static const struct {
    const char *name, *op_class, *rule, *tolerance;
    int32_t min_in, max_in, min_out, max_out;
    double tolerance_value;
} OPS[] = {
#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value)              \
    {#Name, #CLASS, #rule, #tolerance, min_in, max_in, min_out, max_out, value},
#include "ops/ops.inc"
#undef WE_OP_ROW
};

static const we_attr_spec ATTRS[] = {
#define WE_ATTR_ROW(Op, name, KIND) {WE_OP_##Op, #name, WE_ATTR_##KIND},
#include "ops/attrs.inc"
#undef WE_ATTR_ROW
};

int32_t we_op_find(const char *name) {
    for (int32_t i = 0; i < WE_OP_COUNT; i++) {
        if (i != WE_OP_Raster && strcmp(OPS[i].name, name) == 0)
            return i;
    }
    return -1;
}

const char *we_op_name(int32_t op) {
    return OPS[op].name;
}

bool we_op_is_composite(int32_t op) {
    return strcmp(OPS[op].op_class, "COMPOSITE") == 0;
}

void we_op_arity(int32_t op, int32_t *min_in, int32_t *max_in, int32_t *min_out, int32_t *max_out) {
    *min_in = OPS[op].min_in;
    *max_in = OPS[op].max_in;
    *min_out = OPS[op].min_out;
    *max_out = OPS[op].max_out;
}

const we_attr_spec *we_op_attr(int32_t op, const char *name) {
    for (size_t i = 0; i < sizeof ATTRS / sizeof *ATTRS; i++) {
        if (ATTRS[i].op == op && strcmp(ATTRS[i].name, name) == 0)
            return &ATTRS[i];
    }
    return NULL;
}

size_t we_op_count(void) {
    return WE_OP_COUNT;
}

we_status we_op_get(size_t index, we_op_info *out, we_error *err) {
    if (index >= WE_OP_COUNT)
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no op %zu; the last is %d", index,
                            WE_OP_COUNT - 1);
    *out = (we_op_info){
        .name = OPS[index].name,
        .op_class = OPS[index].op_class,
        .min_inputs = OPS[index].min_in,
        .max_inputs = OPS[index].max_in,
        .min_outputs = OPS[index].min_out,
        .max_outputs = OPS[index].max_out,
        .rule = OPS[index].rule,
        .tolerance = OPS[index].tolerance,
        .tolerance_value = OPS[index].tolerance_value,
        .claims = we_op_claims((int32_t)index),
    };
    return WE_OK;
}
