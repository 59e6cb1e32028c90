/* Rules of indexed reads and writes: each is one loop whose views an index tensor moves. */
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"

/* Where element x of a loop over `dims` lies in a dense tensor of that shape, `width` apart. */
static we_address dense(int32_t rank, const int64_t *dims, int64_t width) {
    we_address at = {0};
    we_strides(rank, dims, at.stride);
    for (int32_t i = 0; i < rank; i++)
        at.stride[i] *= width;
    return at;
}

/* Where it lies in `x` along every dim but one, which an index decides. */
static we_address beside_axis(const we_tensor *x, int32_t axis, we_loop_index *index) {
    we_address at = dense(x->rank, x->dims, 1);
    index->components = 1;
    index->step[0] = at.stride[axis];
    index->extent[0] = x->dims[axis];
    at.stride[axis] = 0;
    return at;
}

/* out[..., i, ...] = x[..., index[...], ...] over out's dims; `at` says which index belongs to which element.
 */
static void read_along(we_lower *l, int32_t x, int32_t axis, int32_t index, const we_address *at,
                       int32_t out) {
    we_tensor from = we_lower_tensor(l, x), to = we_lower_tensor(l, out);
    we_loop_index move = {.tensor = index, .at = *at};
    we_loop_builder loop;
    if (to.count == 0 || l->status != WE_OK)
        return;
    we_address beside = beside_axis(&from, axis, &move), into = dense(to.rank, to.dims, 1);
    we_loop_begin(l, &loop, to.rank, to.dims);
    loop.loop.independent = true;
    int32_t source = we_loop_view_of(l, &loop, x, 0, NULL, &beside);
    we_loop_move_by(l, &loop, &move);
    int32_t target = we_loop_view_of(l, &loop, out, 0, NULL, &into);
    we_emit_reshape(l, source, 0, NULL, target);
    we_loop_end(l, &loop);
}

static bool attribute_axis(we_lower *l, int32_t rank, int64_t fallback, int32_t *axis) {
    l->status = we_call_axis(&l->call, we_node_int(l->call.node, "axis", fallback), rank, axis);
    return l->status == WE_OK;
}

void we_rule_gather_elements(we_lower *l) {
    const we_tensor *indices = l->call.in[1];
    int32_t axis = 0;
    if (!attribute_axis(l, l->call.in[0]->rank, 0, &axis))
        return;
    we_address at = dense(indices->rank, indices->dims, 1);
    read_along(l, l->in[0], axis, l->in[1], &at, l->out[0]);
}

/* Indices of the wanted elements, then what lies there. One alone is the most extreme, but for a NaN, which
 * is not among the smallest. */
void we_rule_top_k(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor values = we_lower_tensor(l, l->out[0]);
    int32_t axis = 0;
    if (!attribute_axis(l, x->rank, -1, &axis) || values.count == 0)
        return;
    we_command command = {.kind = WE_COMMAND_TOP, .node = l->node, .in = {l->in[0], -1, -1}};
    command.out =
        l->call.node->output_count > 1 ? l->out[1] : we_lower_temp(l, WE_I64, values.rank, values.dims);
    command.u.top.largest = we_node_int(l->call.node, "largest", 1) != 0;
    command.u.top.n = x->dims[axis];
    command.u.top.k = values.dims[axis];
    command.u.top.outer = command.u.top.inner = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        command.u.top.outer *= i < axis ? x->dims[i] : 1;
        command.u.top.inner *= i > axis ? x->dims[i] : 1;
    }
    if (command.u.top.k == 1 && (command.u.top.largest || we_dtype_kind(x->dtype) != 'f'))
        we_emit_arg(l, command.u.top.largest, false, l->in[0], axis, command.out);
    else if (l->status == WE_OK)
        l->status = we_program_command(l->program, &command, l->call.err);
    we_address at = dense(values.rank, values.dims, 1);
    read_along(l, l->in[0], axis, command.out, &at, l->out[0]);
}

/* Along the time axis, the first `length` elements of each batch turn round. */
void we_rule_reverse_sequence(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    int32_t batch = (int32_t)we_node_int(l->call.node, "batch_axis", 1);
    int32_t time = (int32_t)we_node_int(l->call.node, "time_axis", 0);
    int64_t table[2] = {x->dims[batch], x->dims[time]}, column[2] = {x->dims[batch], 1};
    void *data = NULL;
    int32_t position = we_lower_constant(l, WE_I64, 1, &x->dims[time], &data);
    for (int64_t i = 0; data && i < x->dims[time]; i++)
        ((int64_t *)data)[i] = i;
    int32_t length = we_emit_cast(l, l->in[1], WE_I64, WE_NEW);
    length = we_emit_reshape(l, length, 2, column, WE_NEW);
    int32_t inside = we_emit_binary(l, WE_BINARY_Less, position, length, WE_NEW);
    int32_t last = we_emit_binary(l, WE_BINARY_Sub, length, we_lower_scalar(l, WE_I64, 1), WE_NEW);
    int32_t turned = we_emit_binary(l, WE_BINARY_Sub, last, position, WE_NEW);
    int32_t index = we_lower_temp(l, WE_I64, 2, table);
    we_emit_select(l, inside, turned, position, index);
    we_address at = {0};
    at.stride[batch] = x->dims[time];
    at.stride[time] = 1;
    read_along(l, l->in[0], time, index, &at, l->out[0]);
}

/* How the last dim of the indices addresses x: dims `from` and on, whose slices have `slice` elements. */
static we_loop_index components_of(const we_tensor *x, const we_tensor *indices, int32_t from,
                                   int64_t *slice) {
    int64_t strides[WE_MAX_RANK];
    we_loop_index index = {.components = (int32_t)indices->dims[indices->rank - 1]};
    index.at = dense(indices->rank - 1, indices->dims, index.components);
    we_strides(x->rank, x->dims, strides);
    *slice = 1;
    for (int32_t i = from; i < x->rank; i++) {
        if (i < from + index.components) {
            index.step[i - from] = strides[i];
            index.extent[i - from] = x->dims[i];
        } else {
            *slice *= x->dims[i];
        }
    }
    return index;
}

void we_rule_gather_nd(we_lower *l) {
    const we_tensor *x = l->call.in[0], *indices = l->call.in[1];
    int32_t batch = (int32_t)we_node_int(l->call.node, "batch_dims", 0), rank = indices->rank - 1;
    int64_t slice, strides[WE_MAX_RANK];
    we_loop_index index = components_of(x, indices, batch, &slice);
    we_address from = {0}, to = dense(rank, indices->dims, slice);
    we_loop_builder loop;
    if (we_lower_tensor(l, l->out[0]).count == 0)
        return;
    index.tensor = l->in[1];
    we_strides(x->rank, x->dims, strides);
    memcpy(from.stride, strides, (size_t)batch * sizeof *strides);
    we_loop_begin(l, &loop, rank, indices->dims);
    loop.loop.independent = true;
    int32_t source = we_loop_view_of(l, &loop, l->in[0], 1, &slice, &from);
    we_loop_move_by(l, &loop, &index);
    int32_t target = we_loop_view_of(l, &loop, l->out[0], 1, &slice, &to);
    we_emit_reshape(l, source, 1, &slice, target);
    we_loop_end(l, &loop);
}

/* ---- Writes: the result starts as a copy of the data ---- */

typedef struct scatter {
    int32_t data, updates, indices;
    int32_t rank;
    int64_t dims[WE_MAX_RANK], slice; /* of the loop; elements written at once */
    we_address from, to;              /* in the updates, in the result */
    we_loop_index index;
} scatter;

/* The function a reduction attribute names; -1 overwrites. */
static int32_t reduction_of(we_lower *l) {
    static const struct {
        const char *name;
        int32_t fn;
    } KNOWN[] = {{"none", -1},
                 {"add", WE_BINARY_Add},
                 {"mul", WE_BINARY_Mul},
                 {"max", WE_BINARY_Max},
                 {"min", WE_BINARY_Min}};
    const char *name = we_node_string(l->call.node, "reduction", "none");
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        if (strcmp(name, KNOWN[i].name) == 0)
            return KNOWN[i].fn;
    }
    we_lower_fail(l, WE_INVALID_MODEL, "attribute 'reduction' must be none, add, mul, max or min");
    return -1;
}

static void write_all(we_lower *l, const scatter *s, int32_t fn, int32_t out) {
    we_loop_builder loop;
    we_loop_begin(l, &loop, s->rank, s->dims);
    int32_t source = we_loop_view_of(l, &loop, s->updates, 1, &s->slice, &s->from);
    int32_t target = we_loop_view_of(l, &loop, out, 1, &s->slice, &s->to);
    we_loop_move_by(l, &loop, &s->index);
    we_loop_seed(l, &loop, out, s->data);
    if (fn < 0)
        we_emit_reshape(l, source, 1, &s->slice, target);
    else
        we_emit_binary(l, (we_binary_fn)fn, target, source, target);
    we_loop_end(l, &loop);
}

/* Sums of narrow types are made in the type they are computed in, so that only the end is rounded. */
static void emit_scatter(we_lower *l, scatter s, int32_t fn) {
    we_tensor out = we_lower_tensor(l, l->out[0]), updates = we_lower_tensor(l, s.updates);
    we_dtype computed = we_compute_type(out.dtype);
    if (l->status != WE_OK)
        return;
    if (updates.count == 0 || out.count == 0) {
        we_emit_reshape(l, s.data, out.rank, out.dims, l->out[0]);
        return;
    }
    if (fn < 0 || computed == out.dtype) {
        write_all(l, &s, fn, l->out[0]);
        return;
    }
    s.data = we_emit_cast(l, s.data, computed, WE_NEW);
    s.updates = we_emit_cast(l, s.updates, computed, WE_NEW);
    int32_t wide = we_lower_temp(l, computed, out.rank, out.dims);
    write_all(l, &s, fn, wide);
    we_emit_cast(l, wide, out.dtype, l->out[0]);
}

void we_rule_scatter_elements(we_lower *l) {
    const we_tensor *x = l->call.in[0], *indices = l->call.in[1];
    scatter s = {.data = l->in[0], .updates = l->in[2], .rank = indices->rank, .slice = 1};
    int32_t axis = 0;
    if (!attribute_axis(l, x->rank, 0, &axis))
        return;
    memcpy(s.dims, indices->dims, sizeof s.dims);
    s.from = dense(indices->rank, indices->dims, 1);
    s.to = beside_axis(x, axis, &s.index);
    s.index.tensor = l->in[1];
    s.index.at = s.from;
    emit_scatter(l, s, reduction_of(l));
}

void we_rule_scatter_nd(we_lower *l) {
    const we_tensor *x = l->call.in[0], *indices = l->call.in[1];
    scatter s = {.data = l->in[0], .updates = l->in[2], .rank = indices->rank - 1};
    s.index = components_of(x, indices, 0, &s.slice);
    s.index.tensor = l->in[1];
    memcpy(s.dims, indices->dims, sizeof s.dims);
    s.from = dense(s.rank, s.dims, s.slice);
    emit_scatter(l, s, reduction_of(l));
}

/* The updates overwrite a stretch of the axis that starts where each batch's index says. */
void we_rule_tensor_scatter(we_lower *l) {
    const we_tensor *x = l->call.in[0], *updates = l->call.in[1];
    scatter s = {.data = l->in[0], .updates = l->in[1], .slice = 1};
    const char *mode = we_node_string(l->call.node, "mode", "linear");
    bool circular = strcmp(mode, "circular") == 0;
    int32_t axis = 0;
    if (!circular && strcmp(mode, "linear") != 0)
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'mode' must be 'linear' or 'circular'");
    if (l->status != WE_OK || !attribute_axis(l, x->rank, -2, &axis))
        return;
    int64_t count = updates->dims[axis], column[2] = {x->dims[0], 1};
    void *data = NULL;
    int32_t index = we_lower_constant(l, WE_I64, 1, &count, &data);
    for (int64_t i = 0; data && i < count; i++)
        ((int64_t *)data)[i] = i;
    bool written = we_call_input(&l->call, 2) != NULL;
    if (written)
        index =
            we_emit_binary(l, WE_BINARY_Add, we_emit_reshape(l, l->in[2], 2, column, WE_NEW), index, WE_NEW);
    if (circular)
        index = we_emit_binary(l, WE_BINARY_Mod, index, we_lower_scalar(l, WE_I64, x->dims[axis]), WE_NEW);
    s.to = beside_axis(x, axis, &s.index);
    s.from = dense(updates->rank, updates->dims, 1);
    s.index.tensor = index;
    s.index.at.stride[0] = written ? count : 0;
    s.index.at.stride[axis] += 1;
    s.rank = axis + 1; /* what lies behind the axis is written at once */
    memcpy(s.dims, updates->dims, sizeof s.dims);
    for (int32_t i = axis + 1; i < x->rank; i++)
        s.slice *= x->dims[i];
    emit_scatter(l, s, -1);
}
