/* The shape function of every row of ops.inc. */
#ifndef WE_OPS_SHAPES_H
#define WE_OPS_SHAPES_H

#include "ops/ops.h"

#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value)              \
    we_status we_shape_##shape(const we_call *call, we_tensor *out);
#include "ops/ops.inc"
#undef WE_OP_ROW

#endif
