/* Shape functions, one per name in the shape column of ops.inc, and what they share. Each fills dtype, rank
 * and dims of the node's outputs from its inputs and attributes; families have files of their own,
 * shapes_<family>.c. */
#ifndef WE_OPS_SHAPES_H
#define WE_OPS_SHAPES_H

#include "ops/ops.h"

#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value)              \
    we_status we_shape_##shape(const we_call *call, we_tensor *out);
#include "ops/ops.inc"
#undef WE_OP_ROW

void we_shape_set(we_tensor *out, we_dtype dtype, int32_t rank, const int64_t *dims);
we_status we_shape_too_many_dims(const we_call *call); /* fails */
/* Broadcast what `out` holds with the shape of another input. */
we_status we_shape_join(const we_call *call, const we_tensor *next, we_tensor *out);

#endif
