/* Sequences and optionals. Items are shared, not copied: values do not change. */
#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"

static we_status sequence_input(const we_host *host, const we_datum **out) {
    *out = we_host_input(host, 0);
    if (!*out || (*out)->kind != WE_DATUM_SEQUENCE)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the first input must be a sequence");
    return WE_OK;
}

/* Position of an item, counted from the end where negative; `end` is the last legal one. */
static we_status position(const we_host *host, int32_t index, int64_t count, int64_t fallback, int64_t end,
                          int64_t *out) {
    WE_TRY(we_host_integer(host, index, fallback, out));
    if (*out < -count || *out > end)
        return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT, "position %lld is outside a sequence of %lld",
                            (long long)*out, (long long)count);
    *out += *out < 0 ? count : 0;
    return WE_OK;
}

we_status we_host_sequence_construct(const we_host *host) {
    for (int32_t i = 0; i < host->node->input_count; i++) {
        if (!host->in[i])
            return WE_HOST_FAIL(host, WE_INVALID_MODEL, "input %d is required", (int)i);
    }
    return we_datum_new_sequence(host->in, (size_t)host->node->input_count, &host->out[0], host->err);
}

we_status we_host_sequence_empty(const we_host *host) {
    return we_datum_new_sequence(NULL, 0, &host->out[0], host->err);
}

we_status we_host_sequence_insert(const we_host *host) {
    const we_datum *sequence;
    int64_t at = 0;
    WE_TRY(sequence_input(host, &sequence));
    int64_t count = (int64_t)sequence->count;
    WE_TRY(position(host, 2, count, count, count, &at));
    we_datum **items = we_memory_new((size_t)(count + 1) * sizeof *items);
    if (!items)
        return we_error_no_memory(host->err);
    for (int64_t i = 0; i <= count; i++)
        items[i] = i == at ? host->in[1] : sequence->items[i - (i > at)];
    we_status status = we_datum_new_sequence(items, (size_t)count + 1, &host->out[0], host->err);
    we_memory_free(items);
    return status;
}

we_status we_host_sequence_erase(const we_host *host) {
    const we_datum *sequence;
    int64_t at = 0;
    WE_TRY(sequence_input(host, &sequence));
    int64_t count = (int64_t)sequence->count;
    if (count == 0)
        return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT, "the sequence is empty");
    WE_TRY(position(host, 1, count, count - 1, count - 1, &at));
    we_datum **items = we_memory_new((size_t)count * sizeof *items);
    if (!items)
        return we_error_no_memory(host->err);
    for (int64_t i = 0; i < count - 1; i++)
        items[i] = sequence->items[i + (i >= at)];
    we_status status = we_datum_new_sequence(items, (size_t)count - 1, &host->out[0], host->err);
    we_memory_free(items);
    return status;
}

we_status we_host_sequence_at(const we_host *host) {
    const we_datum *sequence;
    int64_t at = 0;
    WE_TRY(sequence_input(host, &sequence));
    WE_TRY(position(host, 1, (int64_t)sequence->count, 0, (int64_t)sequence->count - 1, &at));
    host->out[0] = we_datum_retain(sequence->items[at]);
    return WE_OK;
}

we_status we_host_sequence_length(const we_host *host) {
    const we_datum *sequence;
    int64_t *length;
    WE_TRY(sequence_input(host, &sequence));
    WE_TRY(we_host_make(host, 0, WE_I64, 0, NULL, &length));
    *length = (int64_t)sequence->count;
    return WE_OK;
}

/* ---- Between tensors and sequences ---- */

/* Rows [from, from + size) along the axis as a tensor of their own; with `drop` without that axis. */
static we_status cut(const we_host *host, const we_view *x, int32_t axis, int64_t from, int64_t size,
                     bool drop, we_datum **out) {
    we_view part = *x;
    we_along all = we_view_along(x, axis);
    size_t element = we_dtype_size(x->dtype), run = (size_t)(size * all.inner) * element;
    part.dims[axis] = size;
    if (drop) {
        memmove(part.dims + axis, part.dims + axis + 1, (size_t)(x->rank - axis - 1) * sizeof *part.dims);
        part.rank--;
    }
    WE_TRY(we_datum_make(host->budget, host->node->name, part.dtype, part.rank, part.dims, out, host->err));
    for (int64_t o = 0; o < all.outer && run; o++)
        memcpy((char *)(*out)->view.data + (size_t)o * run,
               (const char *)x->data + (size_t)((o * all.n + from) * all.inner) * element, run);
    return WE_OK;
}

/* Where parts end: given lengths, one length for all, or 1. */
typedef struct parts {
    const we_view *lengths; /* NULL: `each` */
    int64_t each, count;
} parts;

static we_status read_parts(const we_host *host, int64_t n, parts *out) {
    *out = (parts){.each = 1, .count = n};
    if (!we_host_input(host, 1))
        return WE_OK;
    WE_TRY(we_host_tensor(host, 1, &out->lengths));
    const we_view *lengths = out->lengths;
    if (lengths->rank > 1 || (lengths->dtype != WE_I64 && lengths->dtype != WE_I32))
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the lengths must be a list of integers");
    if (lengths->rank == 0) {
        out->each = we_view_integer(lengths, 0);
        out->lengths = NULL;
        if (out->each < 1)
            return WE_HOST_FAIL(host, WE_INVALID_MODEL, "parts of length %lld", (long long)out->each);
        out->count = n / out->each + (n % out->each != 0);
        return WE_OK;
    }
    int64_t total = 0;
    out->count = lengths->dims[0];
    for (int64_t i = 0; i < out->count; i++) {
        int64_t length = we_view_integer(lengths, i);
        if (length < 0 || length > n - total)
            return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the parts do not add up to the dim (%lld)",
                                (long long)n);
        total += length;
    }
    return total == n ? WE_OK
                      : WE_HOST_FAIL(host, WE_INVALID_MODEL, "the parts do not add up to the dim (%lld)",
                                     (long long)n);
}

we_status we_host_split_to_sequence(const we_host *host) {
    const we_view *x;
    int32_t axis = 0;
    parts p;
    WE_TRY(we_host_tensor(host, 0, &x));
    WE_TRY(we_host_axis(host, we_node_int(host->node, "axis", 0), x->rank, &axis));
    WE_TRY(read_parts(host, x->dims[axis], &p));
    bool drop = !we_host_input(host, 1) && we_node_int(host->node, "keepdims", 1) == 0;
    we_datum **items = we_memory_new((size_t)p.count * sizeof *items);
    if (!items)
        return we_error_no_memory(host->err);
    we_status status = WE_OK;
    int64_t from = 0;
    for (int64_t i = 0; i < p.count && status == WE_OK; i++) {
        int64_t left = x->dims[axis] - from, size = p.lengths ? we_view_integer(p.lengths, i) : p.each;
        size = size < left ? size : left;
        status = cut(host, x, axis, from, size, drop, &items[i]);
        from += size;
    }
    if (status == WE_OK)
        status = we_datum_new_sequence(items, (size_t)p.count, &host->out[0], host->err);
    for (int64_t i = 0; i < p.count; i++)
        we_datum_release(items[i]);
    we_memory_free(items);
    return status;
}

/* Shape of the joined tensor: the items' with their sum along the axis, or with a new axis of their number.
 */
static we_status joined_shape(const we_host *host, const we_datum *sequence, bool fresh, we_view *out,
                              int32_t *axis) {
    if (sequence->count == 0)
        return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT, "nothing to join: the sequence is empty");
    *out = sequence->items[0]->view;
    if (out->rank + fresh > WE_MAX_RANK)
        return WE_HOST_FAIL(host, WE_UNSUPPORTED, "the result has more than %d dims", WE_MAX_RANK);
    WE_TRY(we_host_axis(host, we_node_int(host->node, "axis", 0), out->rank + fresh, axis));
    int64_t total = 0;
    for (size_t n = 0; n < sequence->count; n++) {
        const we_datum *item = sequence->items[n];
        bool same =
            item->kind == WE_DATUM_TENSOR && item->view.dtype == out->dtype && item->view.rank == out->rank;
        for (int32_t i = 0; same && i < out->rank; i++)
            same = item->view.dims[i] == out->dims[i] || (!fresh && i == *axis);
        if (!same)
            return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT,
                                "item %zu has another type or shape than the first", n);
        total += fresh ? 1 : item->view.dims[*axis];
    }
    if (fresh) {
        memmove(out->dims + *axis + 1, out->dims + *axis, (size_t)(out->rank - *axis) * sizeof *out->dims);
        out->rank++;
    }
    out->dims[*axis] = total;
    return WE_OK;
}

we_status we_host_concat_from_sequence(const we_host *host) {
    const we_datum *sequence;
    we_view joined;
    int32_t axis = 0;
    char *to;
    bool fresh = we_node_int(host->node, "new_axis", 0) != 0;
    WE_TRY(sequence_input(host, &sequence));
    WE_TRY(joined_shape(host, sequence, fresh, &joined, &axis));
    WE_TRY(we_host_make(host, 0, joined.dtype, joined.rank, joined.dims, &to));
    we_along all = we_view_along(&joined, axis);
    size_t element = we_dtype_size(joined.dtype);
    for (int64_t o = 0; o < all.outer; o++) {
        for (size_t n = 0; n < sequence->count; n++) {
            const we_view *item = &sequence->items[n]->view;
            size_t run = (size_t)((fresh ? 1 : item->dims[axis]) * all.inner) * element;
            if (run)
                memcpy(to, (const char *)item->data + (size_t)o * run, run);
            to += run;
        }
    }
    return WE_OK;
}

/* ---- Optionals: one with a value is that value ---- */

we_status we_host_pass(const we_host *host) {
    host->out[0] = we_datum_retain(host->in[0]);
    return WE_OK;
}

we_status we_host_optional(const we_host *host) {
    return we_host_input(host, 0) ? we_host_pass(host) : we_datum_new_none(&host->out[0], host->err);
}

we_status we_host_optional_get(const we_host *host) {
    if (host->in[0]->kind == WE_DATUM_NONE)
        return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT, "the optional has no value");
    return we_host_pass(host);
}

we_status we_host_optional_has(const we_host *host) {
    const we_datum *datum = we_host_input(host, 0);
    uint8_t *has;
    WE_TRY(we_host_make(host, 0, WE_BOOL, 0, NULL, &has));
    *has = datum && datum->kind != WE_DATUM_NONE;
    return WE_OK;
}
