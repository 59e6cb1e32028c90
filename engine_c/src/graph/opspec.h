/* What the verifier must know of an operator. The table itself is ops/ops.inc; this is the view of it from
 * below. */
#ifndef WE_GRAPH_OPSPEC_H
#define WE_GRAPH_OPSPEC_H

#include <walle/engine.h>

enum {
    WE_MAX_NODE_INPUTS = 1024, /* of one node; Concat is the only op with many */
};

typedef struct we_attr_spec {
    int32_t op;
    const char *name;
    we_attr_kind kind;
} we_attr_spec;

/* The op's index in ops.inc, or -1. */
int32_t we_op_find(const char *name);
const char *we_op_name(int32_t op);
/* Fills the row of op, which must be valid. */
void we_op_arity(int32_t op, int32_t *min_in, int32_t *max_in, int32_t *min_out, int32_t *max_out);
/* Back ends that claim the op, comma-separated; filled by backend/claims.inc. */
const char *we_op_claims(int32_t op);
/* The attribute's declaration, or NULL where the op has none of that name. */
const we_attr_spec *we_op_attr(int32_t op, const char *name);

#endif
