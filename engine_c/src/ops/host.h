/* Host operators: functions from values to values, for what no static program can say: results whose shape
 * depends on data, text, sequences, optionals. run/module.c calls them between the programs of a model. */
#ifndef WE_OPS_HOST_H
#define WE_OPS_HOST_H

#include "base/texts.h"
#include "graph/datum.h"
#include "graph/graph.h"

/* A node with its values. `in[i]` is NULL where omitted; every entry of `out` must be filled unless the
 * function fails (whoever calls it releases what is there). Inputs are only read. */
typedef struct we_host {
    const we_graph *graph;
    const we_node *node;
    we_datum *const *in;
    we_datum **out;
    we_budget *budget;
    we_texts *texts; /* every element of a STRING tensor of the run is from here */
    we_error *err;
} we_host;

typedef we_status (*we_host_fn)(const we_host *host);

/* When an operator runs as a host function (column of host.inc). */
typedef enum we_host_when {
    WE_HOST_ALWAYS,
    WE_HOST_TEXT,  /* an input is a STRING tensor, or an attribute says text: value_string(s), to = STRING */
    WE_HOST_VALUE, /* an input is a sequence or an empty optional */
} we_host_when;

/* The function for this node given its inputs (`in` may be NULL: then by its attributes alone), or NULL where
 * it runs in a program. */
we_host_fn we_host_find(const we_node *node, we_datum *const *in);
/* Does the operator only move elements, so that its program may hold STRING tensors? */
bool we_op_moves_text(int32_t op);

#define WE_HOST_FAIL(host, status, ...)                                                                      \
    we_error_set_at((host)->err, status, we_op_name((host)->node->op), (host)->node->name, __VA_ARGS__)

/* ---- What host functions are written with ---- */

/* Input `index`; NULL where omitted. */
const we_datum *we_host_input(const we_host *host, int32_t index);
/* Input `index` as a tensor; INVALID_MODEL where it is none. */
we_status we_host_tensor(const we_host *host, int32_t index, const we_view **out);
/* The same, of one dtype. */
we_status we_host_typed(const we_host *host, int32_t index, we_dtype dtype, const we_view **out);
/* Input `index` as one integer, or the fallback where it is omitted. */
we_status we_host_integer(const we_host *host, int32_t index, int64_t fallback, int64_t *out);
/* Make tensor output `index`; *data is its zeroed memory. */
we_status we_host_make(const we_host *host, int32_t index, we_dtype dtype, int32_t rank, const int64_t *dims,
                       void *data /* a pointer to a pointer */);
we_status we_host_axis(const we_host *host, int64_t axis, int32_t rank, int32_t *out);
/* A text of the run; OUT_OF_MEMORY past the memory limit. */
we_status we_host_text(const we_host *host, const char *text, size_t length, const char **out);

/* [outer, n, inner] of a shape seen along one axis. */
typedef struct we_along {
    int64_t outer, n, inner;
} we_along;
we_along we_view_along(const we_view *view, int32_t axis);

#define WE_HOST_ROW(Op, when, name) we_status we_host_##name(const we_host *host);
#define WE_HOST_MOVES_ROW(Op)
#include "ops/host.inc"
#undef WE_HOST_ROW
#undef WE_HOST_MOVES_ROW

#endif
