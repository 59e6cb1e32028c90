#include "graph/datum.h"

#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

enum {
    OVERHEAD = 256, /* bytes charged for a tensor beside its elements, so that many small ones count too */
};

static we_status new_datum(we_datum_kind kind, we_datum **out, we_error *err) {
    if (!out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the out pointer is NULL");
    *out = we_memory_new(sizeof **out);
    if (!*out)
        return we_error_no_memory(err);
    atomic_init(&(*out)->references, 1);
    (*out)->kind = kind;
    return WE_OK;
}

int64_t we_view_elements(const we_view *view) {
    int64_t count = 1;
    for (int32_t i = 0; i < view->rank; i++)
        count *= view->dims[i];
    return count;
}

size_t we_view_bytes(const we_view *view) {
    return (size_t)we_view_elements(view) * we_dtype_size(view->dtype);
}

int64_t we_view_integer(const we_view *view, int64_t i) {
    switch (view->dtype) {
    case WE_I64:
    case WE_U64:
        return ((const int64_t *)view->data)[i];
    case WE_I32:
        return ((const int32_t *)view->data)[i];
    case WE_U32:
        return ((const uint32_t *)view->data)[i];
    case WE_I16:
        return ((const int16_t *)view->data)[i];
    case WE_U16:
        return ((const uint16_t *)view->data)[i];
    case WE_I8:
        return ((const int8_t *)view->data)[i];
    case WE_U8:
    case WE_BOOL:
        return ((const uint8_t *)view->data)[i];
    default:
        return 0;
    }
}

double we_view_number(const we_view *view, int64_t i) {
    switch (view->dtype) {
    case WE_F32:
        return ((const float *)view->data)[i];
    case WE_F64:
        return ((const double *)view->data)[i];
    case WE_F16:
        return we_f16_to_f32(((const uint16_t *)view->data)[i]);
    case WE_BF16:
        return we_bf16_to_f32(((const uint16_t *)view->data)[i]);
    case WE_U64:
        return (double)((const uint64_t *)view->data)[i];
    default:
        return (double)we_view_integer(view, i);
    }
}

static we_status over_limit(const we_budget *budget, const char *what, int64_t bytes, we_error *err) {
    return we_error_set(
        err, WE_OUT_OF_MEMORY,
        "'%.100s' needs %lld bytes beside the %lld in use, more than the session's memory limit "
        "of %lld: raise memory_limit if the model is to be trusted",
        what, (long long)bytes, (long long)budget->used, (long long)budget->limit);
}

we_status we_datum_adopt(we_budget *budget, const char *what, we_block *block, we_datum **out,
                         we_error *err) {
    int64_t bytes = (int64_t)we_block_nbytes(block) + OVERHEAD;
    we_status status = budget && bytes > budget->limit - budget->used ? over_limit(budget, what, bytes, err)
                                                                      : new_datum(WE_DATUM_TENSOR, out, err);
    if (status != WE_OK) {
        we_block_release(block);
        return status;
    }
    (*out)->block = block;
    (*out)->view = we_block_view(block);
    (*out)->budget = budget;
    (*out)->charged = bytes;
    if (budget)
        budget->used += bytes;
    return WE_OK;
}

we_status we_datum_make(we_budget *budget, const char *what, we_dtype dtype, int32_t rank,
                        const int64_t *dims, we_datum **out, we_error *err) {
    we_block *block;
    int64_t count = 0;
    if (!we_shape_count(rank, dims, dtype, &count))
        return we_error_set(err, WE_OUT_OF_MEMORY, "'%.100s' would be absurdly large", what);
    int64_t bytes = count * (int64_t)we_dtype_size(dtype);
    if (budget && bytes > budget->limit - budget->used)
        return over_limit(budget, what, bytes, err);
    WE_TRY(we_block_new(dtype, rank, dims, &block, err));
    return we_datum_adopt(budget, what, block, out, err);
}

we_status we_datum_borrow(const we_view *view, we_datum **out, we_error *err) {
    WE_TRY(new_datum(WE_DATUM_TENSOR, out, err));
    (*out)->view = *view;
    return WE_OK;
}

we_status we_datum_new_tensor(we_block *block, we_datum **out, we_error *err) {
    if (!block)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the block is NULL");
    return we_datum_adopt(NULL, "", we_block_retain(block), out, err);
}

we_status we_datum_new_view(const we_view *view, we_datum **out, we_error *err) {
    int64_t count;
    if (!view || !we_shape_count(view->rank, view->dims, view->dtype, &count) || (count && !view->data))
        return we_error_set(err, WE_INVALID_ARGUMENT, "a tensor has an illegal shape or no data");
    return we_datum_borrow(view, out, err);
}

we_status we_datum_new_none(we_datum **out, we_error *err) {
    return new_datum(WE_DATUM_NONE, out, err);
}

we_status we_datum_new_sequence(we_datum *const *items, size_t count, we_datum **out, we_error *err) {
    for (size_t i = 0; i < count; i++) { /* also bounds how deep values lie in each other */
        if (!items[i] || items[i]->kind == WE_DATUM_SEQUENCE)
            return we_error_set(err, WE_UNSUPPORTED, "a sequence of sequences is not supported");
    }
    WE_TRY(new_datum(WE_DATUM_SEQUENCE, out, err));
    (*out)->items = we_memory_new(count * sizeof *(*out)->items);
    if (!(*out)->items) {
        we_datum_release(*out);
        *out = NULL;
        return we_error_no_memory(err);
    }
    for (size_t i = 0; i < count; i++)
        (*out)->items[i] = we_datum_retain(items[i]);
    (*out)->count = count;
    return WE_OK;
}

we_datum *we_datum_retain(we_datum *datum) {
    atomic_fetch_add_explicit(&datum->references, 1, memory_order_relaxed);
    return datum;
}

void we_datum_release(we_datum *datum) {
    if (!datum || atomic_fetch_sub_explicit(&datum->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < datum->count; i++)
        we_datum_release(datum->items[i]);
    if (datum->budget)
        datum->budget->used -= datum->charged;
    we_block_release(datum->block);
    we_memory_free(datum->items);
    we_memory_free(datum);
}

we_datum_kind we_datum_kind_of(const we_datum *datum) {
    return datum->kind;
}

we_block *we_datum_block(const we_datum *datum) {
    return datum->block ? we_block_retain(datum->block) : NULL;
}

size_t we_datum_count(const we_datum *datum) {
    return datum->count;
}

we_datum *we_datum_item(const we_datum *datum, size_t index) {
    return index < datum->count ? we_datum_retain(datum->items[index]) : NULL;
}

static we_status copy_out(const we_view *view, we_datum **out, we_error *err) {
    WE_TRY(we_datum_make(NULL, "an output", view->dtype, view->rank, view->dims, out, err));
    size_t bytes = we_view_bytes(view);
    we_status status = WE_OK;
    if (view->dtype == WE_STRING)
        status = we_block_set_texts((*out)->block, view->data, err);
    else if (bytes)
        memcpy((*out)->view.data, view->data, bytes);
    if (status != WE_OK) {
        we_datum_release(*out);
        *out = NULL;
    }
    return status;
}

static we_status sequence_leaves(const we_datum *datum, we_datum **out, we_error *err) {
    WE_TRY(we_datum_new_sequence(NULL, 0, out, err));
    we_memory_free((*out)->items);
    (*out)->items = we_memory_new(datum->count * sizeof *datum->items);
    we_status status = (*out)->items ? WE_OK : we_error_no_memory(err);
    for (size_t i = 0; i < datum->count && status == WE_OK; i++) {
        status = we_datum_leave(datum->items[i], &(*out)->items[i], err);
        (*out)->count += status == WE_OK;
    }
    if (status != WE_OK) {
        we_datum_release(*out);
        *out = NULL;
    }
    return status;
}

we_status we_datum_leave(we_datum *datum, we_datum **out, we_error *err) {
    *out = NULL;
    if (datum->kind == WE_DATUM_SEQUENCE)
        return sequence_leaves(datum, out, err);
    if (datum->kind == WE_DATUM_TENSOR && (!datum->block || datum->view.dtype == WE_STRING))
        return copy_out(&datum->view, out, err);
    if (datum->budget) {
        datum->budget->used -= datum->charged;
        datum->budget = NULL;
    }
    *out = we_datum_retain(datum);
    return WE_OK;
}
