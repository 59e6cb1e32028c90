/* Einsum: operands are taken in from the left, each by one product. Repeated letters of a term become one dim
 * of a diagonal view; letters that only one operand has and the result does not want are summed first; then
 * batch (kept, in both), left, right (kept, in one) and inner (summed, in both) are the dims of a batched
 * matrix product, or of a plain multiplication where nothing is summed. */
#include <string.h>

#include "geometry/parts.h"
#include "ops/sequence.h"

/* A tensor with one label per dim, each at most once. */
typedef struct operand {
    int32_t tensor, rank;
    uint8_t labels[WE_MAX_RANK];
} operand;

static int32_t dim_of(const operand *x, uint8_t label) {
    for (int32_t i = 0; i < x->rank; i++) {
        if (x->labels[i] == label)
            return i;
    }
    return -1;
}

/* The diagonal along repeated labels. */
static operand distinct(we_lower *l, int32_t tensor, const we_einsum_term *term) {
    we_tensor from = we_lower_tensor(l, tensor);
    operand x = {.tensor = tensor};
    int64_t strides[WE_MAX_RANK], dims[WE_MAX_RANK] = {0};
    we_box box = {0};
    we_raster raster = {0};
    we_strides(from.rank, from.dims, strides);
    for (int32_t i = 0; i < from.rank; i++) {
        int32_t at = dim_of(&x, term->labels[i]);
        if (at < 0) {
            at = x.rank++;
            x.labels[at] = term->labels[i];
            dims[at] = 1;
        }
        dims[at] = from.dims[i] == 1 ? dims[at] : from.dims[i];
        box.src_stride[at] += from.dims[i] == 1 ? 0 : strides[i];
    }
    if (x.rank == from.rank)
        return x;
    box.rank = x.rank;
    memcpy(box.size, dims, sizeof dims);
    we_strides(x.rank, dims, box.dst_stride);
    x.tensor = we_lower_temp(l, from.dtype, x.rank, dims);
    we_raster_add(l, &raster, tensor, &box);
    we_emit_raster(l, &raster, x.tensor);
    return x;
}

/* x without the flagged dims, which are of size 1 once `sum` has summed them. */
static operand without(we_lower *l, operand x, const bool *dropped, bool sum) {
    bool any = false;
    int32_t kept = 0;
    int64_t dims[WE_MAX_RANK] = {0};
    for (int32_t i = 0; i < x.rank; i++)
        any = any || dropped[i];
    if (!any)
        return x;
    if (sum)
        x.tensor = we_emit_reduce(l, WE_REDUCE_Sum, x.tensor, dropped, WE_NEW);
    we_tensor from = we_lower_tensor(l, x.tensor);
    for (int32_t i = 0; i < x.rank; i++) {
        if (!dropped[i]) {
            dims[kept] = from.dims[i];
            x.labels[kept++] = x.labels[i];
        }
    }
    x.rank = kept;
    x.tensor = we_emit_reshape(l, x.tensor, kept, dims, WE_NEW);
    return x;
}

/* Sum what nobody else needs. */
static operand summed(we_lower *l, operand x, const operand *other, const bool *needed) {
    bool dropped[WE_MAX_RANK] = {false};
    for (int32_t i = 0; i < x.rank; i++)
        dropped[i] = !needed[x.labels[i]] && (!other || dim_of(other, x.labels[i]) < 0);
    return without(l, x, dropped, true);
}

/* Drop dims of 1 that the other operand has in full: they repeat. */
static operand unrepeated(we_lower *l, operand x, const operand *other) {
    we_tensor own = we_lower_tensor(l, x.tensor), its = we_lower_tensor(l, other->tensor);
    bool dropped[WE_MAX_RANK] = {false};
    for (int32_t i = 0; i < x.rank && l->status == WE_OK; i++) {
        int32_t at = dim_of(other, x.labels[i]);
        dropped[i] = at >= 0 && own.dims[i] == 1 && its.dims[at] != 1;
    }
    return without(l, x, dropped, false);
}

/* Labels in some order, and the product of their sizes. */
typedef struct labels {
    int32_t count;
    uint8_t label[2 * WE_MAX_RANK];
    int64_t size;
} labels;

static void append(labels *list, uint8_t label, int64_t size) {
    list->label[list->count++] = label;
    list->size *= size;
}

/* x with its dims in the order of the lists, two or three of them. */
static int32_t ordered(we_lower *l, const operand *x, const labels *const *lists, int32_t count) {
    int32_t perm[WE_MAX_RANK], rank = 0;
    bool same = true;
    for (int32_t n = 0; n < count; n++) {
        for (int32_t i = 0; i < lists[n]->count; i++) {
            perm[rank] = dim_of(x, lists[n]->label[i]);
            same = same && perm[rank] == rank;
            rank++;
        }
    }
    return same ? x->tensor : we_emit_transpose(l, x->tensor, perm, WE_NEW);
}

/* [batch, left, inner] x [batch, inner, right]; a multiplication where nothing is summed. */
static int32_t multiply(we_lower *l, int32_t a, int32_t b, const labels *batch, const labels *left,
                        const labels *right, const labels *inner, int32_t rank, const int64_t *dims) {
    if (inner->count == 0) {
        int64_t a_dims[3] = {batch->size, left->size, 1}, b_dims[3] = {batch->size, 1, right->size};
        a = we_emit_reshape(l, a, 3, a_dims, WE_NEW);
        b = we_emit_reshape(l, b, 3, b_dims, WE_NEW);
        return we_emit_reshape(l, we_emit_binary(l, WE_BINARY_Mul, a, b, WE_NEW), rank, dims, WE_NEW);
    }
    we_matmul p = {.m = left->size, .k = inner->size, .n = right->size, .batch_rank = 1};
    p.batch[0] = batch->size;
    p.a_batch[0] = p.m * p.k;
    p.b_batch[0] = p.k * p.n;
    p.a_row = p.k;
    p.b_row = p.n;
    p.a_column = p.b_column = 1;
    return we_emit_matmul(l, a, b, &p, rank, dims, WE_NEW);
}

static operand contract(we_lower *l, operand a, operand b, const bool *needed) {
    labels batch = {.size = 1}, left = {.size = 1}, right = {.size = 1}, inner = {.size = 1};
    a = unrepeated(l, a, &b);
    b = unrepeated(l, b, &a);
    a = summed(l, a, &b, needed);
    b = summed(l, b, &a, needed);
    we_tensor ta = we_lower_tensor(l, a.tensor), tb = we_lower_tensor(l, b.tensor);
    if (l->status != WE_OK)
        return a;
    for (int32_t i = 0; i < a.rank; i++) {
        bool shared = dim_of(&b, a.labels[i]) >= 0;
        append(!shared ? &left : needed[a.labels[i]] ? &batch : &inner, a.labels[i], ta.dims[i]);
    }
    for (int32_t i = 0; i < b.rank; i++) {
        if (dim_of(&a, b.labels[i]) < 0)
            append(&right, b.labels[i], tb.dims[i]);
    }
    operand result = {.rank = batch.count + left.count + right.count};
    if (result.rank > WE_MAX_RANK) {
        we_lower_fail(l, WE_UNSUPPORTED, "an intermediate result has too many dims: split the equation");
        return a;
    }
    int64_t dims[WE_MAX_RANK] = {0};
    const labels *order[3] = {&batch, &left, &right};
    for (int32_t n = 0, to = 0; n < 3; n++) {
        for (int32_t i = 0; i < order[n]->count; i++, to++) {
            uint8_t label = order[n]->label[i];
            result.labels[to] = label;
            dims[to] = n == 2 ? tb.dims[dim_of(&b, label)] : ta.dims[dim_of(&a, label)];
        }
    }
    const labels *of_a[3] = {&batch, &left, &inner}, *of_b[3] = {&batch, &inner, &right};
    int32_t x = ordered(l, &a, of_a, 3), y = ordered(l, &b, of_b, 3);
    result.tensor = multiply(l, x, y, &batch, &left, &right, &inner, result.rank, dims);
    return result;
}

void we_rule_einsum(we_lower *l) {
    we_einsum e;
    bool needed[WE_EINSUM_OPERANDS][WE_EINSUM_LABELS] = {{false}}; /* after that operand is taken in */
    l->status = we_call_einsum(&l->call, &e);
    if (l->status != WE_OK)
        return;
    for (int32_t i = 0; i < e.out.rank; i++)
        needed[e.operands - 1][e.out.labels[i]] = true;
    for (int32_t n = e.operands - 1; n > 0; n--) {
        memcpy(needed[n - 1], needed[n], sizeof needed[n]);
        for (int32_t i = 0; i < e.in[n].rank; i++)
            needed[n - 1][e.in[n].labels[i]] = true;
    }
    operand so_far = summed(l, distinct(l, l->in[0], &e.in[0]), NULL, needed[0]);
    for (int32_t n = 1; n < e.operands; n++)
        so_far = contract(l, so_far, distinct(l, l->in[n], &e.in[n]), needed[n]);
    labels out = {.size = 1};
    for (int32_t i = 0; i < e.out.rank; i++)
        append(&out, e.out.labels[i], 1);
    const labels *order[1] = {&out};
    we_emit_store(l, ordered(l, &so_far, order, 1), l->out[0]);
}
