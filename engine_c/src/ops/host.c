#include "ops/host.h"

#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/ops.h"

static const struct {
    int32_t op;
    we_host_when when;
    we_host_fn function;
} HOSTS[] = {
#define WE_HOST_ROW(Op, when, name) {WE_OP_##Op, WE_HOST_##when, we_host_##name},
#define WE_HOST_MOVES_ROW(Op)
#include "ops/host.inc"
#undef WE_HOST_ROW
#undef WE_HOST_MOVES_ROW
};

static const int32_t MOVES[] = {
#define WE_HOST_ROW(Op, when, name)
#define WE_HOST_MOVES_ROW(Op) WE_OP_##Op,
#include "ops/host.inc"
#undef WE_HOST_ROW
#undef WE_HOST_MOVES_ROW
};

bool we_op_moves_text(int32_t op) {
    for (size_t i = 0; i < sizeof MOVES / sizeof *MOVES; i++) {
        if (MOVES[i] == op)
            return true;
    }
    return false;
}

static bool says_text(const we_node *node) {
    return strcmp(we_node_string(node, "to", ""), "STRING") == 0 || we_node_attr(node, "value_string") ||
           we_node_attr(node, "value_strings");
}

static bool fits(we_host_when when, const we_node *node, we_datum *const *in) {
    if (when == WE_HOST_ALWAYS || (when == WE_HOST_TEXT && says_text(node)))
        return true;
    for (int32_t i = 0; in && i < node->input_count; i++) {
        if (!in[i])
            continue;
        bool tensor = in[i]->kind == WE_DATUM_TENSOR;
        if (when == WE_HOST_TEXT ? tensor && in[i]->view.dtype == WE_STRING : !tensor)
            return true;
    }
    return false;
}

we_host_fn we_host_find(const we_node *node, we_datum *const *in) {
    for (size_t i = 0; i < sizeof HOSTS / sizeof *HOSTS; i++) {
        if (HOSTS[i].op == node->op && fits(HOSTS[i].when, node, in))
            return HOSTS[i].function;
    }
    return NULL;
}

const we_datum *we_host_input(const we_host *host, int32_t index) {
    return index < host->node->input_count ? host->in[index] : NULL;
}

we_status we_host_tensor(const we_host *host, int32_t index, const we_view **out) {
    const we_datum *datum = we_host_input(host, index);
    if (!datum || datum->kind != WE_DATUM_TENSOR)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "input %d must be a tensor", (int)index);
    *out = &datum->view;
    return WE_OK;
}

we_status we_host_typed(const we_host *host, int32_t index, we_dtype dtype, const we_view **out) {
    WE_TRY(we_host_tensor(host, index, out));
    if ((*out)->dtype != dtype)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "input %d must be %s, not %s", (int)index,
                            we_dtype_name(dtype), we_dtype_name((*out)->dtype));
    return WE_OK;
}

we_status we_host_integer(const we_host *host, int32_t index, int64_t fallback, int64_t *out) {
    const we_view *view = NULL; /* set on success; said here for compilers that inline half of it */
    *out = fallback;
    if (!we_host_input(host, index))
        return WE_OK;
    WE_TRY(we_host_tensor(host, index, &view));
    if (we_view_elements(view) != 1 || (view->dtype != WE_I64 && view->dtype != WE_I32))
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "input %d must be one integer", (int)index);
    *out = we_view_integer(view, 0);
    return WE_OK;
}

we_status we_host_make(const we_host *host, int32_t index, we_dtype dtype, int32_t rank, const int64_t *dims,
                       void *data) {
    we_datum *made;
    const char *what = host->node->name[0] ? host->node->name : we_op_name(host->node->op);
    WE_TRY(we_datum_make(host->budget, what, dtype, rank, dims, &made, host->err));
    host->out[index] = made;
    *(void **)data = made->view.data;
    return WE_OK;
}

we_status we_host_axis(const we_host *host, int64_t axis, int32_t rank, int32_t *out) {
    if (axis < -(int64_t)rank || axis >= rank)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "axis %lld is outside a tensor of rank %d",
                            (long long)axis, (int)rank);
    *out = (int32_t)(axis < 0 ? axis + rank : axis);
    return WE_OK;
}

we_status we_host_text(const we_host *host, const char *text, size_t length, const char **out) {
    *out = we_texts_add(host->texts, text, length);
    return *out
               ? WE_OK
               : WE_HOST_FAIL(host, WE_OUT_OF_MEMORY, "the texts of the run pass the session's memory limit");
}

we_along we_view_along(const we_view *view, int32_t axis) {
    we_along along = {1, view->dims[axis], 1};
    for (int32_t i = 0; i < view->rank; i++) {
        if (i < axis)
            along.outer *= view->dims[i];
        else if (i > axis)
            along.inner *= view->dims[i];
    }
    return along;
}
