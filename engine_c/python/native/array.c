/* Array: a strided view of numbers.
 *
 * Invariants:
 *  - The memory is a block of the engine, shared by all views of it, or lent by a memoryview that the array
 * keeps; never both. Views hold what their base holds, not the base: chains do not grow.
 *  - Every address that dims and strides can name lies within that memory. Only this file and array_shape.c
 * make views.
 *  - Lent memory that is read-only is never written: `readonly`.
 *  - An array is a Python object of one interpreter; between interpreters go blocks, by handle.
 */
#include "array.h" /* first, as Python.h must be */

#include <string.h>

/* ---- Making arrays ---- */

static const struct {
    const char *format;
    we_dtype block;
    int8_t per; /* block elements per element */
} STORED[] = {
#define WE_ARRAY_DTYPE_ROW(NAME, name, type, kind, format, block, per) {format, WE_##block, per},
#include "walle/array_dtypes.inc"
#undef WE_ARRAY_DTYPE_ROW
};

int64_t we_native_count(const we_array *x) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < x->rank; axis++) {
        count *= x->dims[axis];
    }
    return count;
}

bool we_native_is_dense(const we_array *x) {
    int64_t stride = we_array_dtype_size(x->dtype);
    for (int32_t axis = x->rank - 1; axis >= 0; axis--) {
        if (x->dims[axis] == 0) {
            return true;
        }
        if (x->dims[axis] != 1 && x->strides[axis] != stride) {
            return we_native_count(x) == 0;
        }
        stride *= x->dims[axis];
    }
    return true;
}

void we_native_set_dense(we_array *x) {
    int64_t stride = we_array_dtype_size(x->dtype);
    for (int32_t axis = x->rank - 1; axis >= 0; axis--) {
        x->strides[axis] = stride;
        stride *= x->dims[axis] ? x->dims[axis] : 1;
    }
}

PyObject *we_native_array_raise(const we_error *error) {
    if (error->status == WE_INVALID_ARGUMENT) {
        PyErr_SetString(PyExc_ValueError, error->message);
        return NULL;
    }
    return we_native_raise(error);
}

static Array *allocate(native_state *state) {
    return (Array *)state->array_type->tp_alloc(state->array_type, 0);
}

Array *we_native_array_new(native_state *state, we_array_dtype dtype, int rank, const int64_t *dims) {
    we_error error;
    we_block *block;
    int64_t stored[WE_MAX_RANK] = {0};
    if (rank > 0) { /* else dims may be NULL */
        memcpy(stored, dims, (size_t)rank * sizeof *dims);
    }
    if (STORED[dtype].per == 2 && rank > 0) {
        stored[0] = stored[0] > INT64_MAX / 2 ? INT64_MAX : 2 * stored[0];
    } else if (STORED[dtype].per == 2) {
        stored[0] = 2;
    }
    int stored_rank = rank == 0 && STORED[dtype].per == 2 ? 1 : rank;
    if (we_block_new_dirty(STORED[dtype].block, stored_rank, stored, &block, &error) != WE_OK) {
        return (Array *)we_native_array_raise(&error);
    }
    Array *self = allocate(state);
    if (self == NULL) {
        we_block_release(block);
        return NULL;
    }
    self->block = block;
    self->view.dtype = dtype;
    self->view.rank = rank;
    if (rank > 0) {
        memcpy(self->view.dims, dims, (size_t)rank * sizeof *dims);
    }
    self->view.data = we_block_view(block).data;
    we_native_set_dense(&self->view);
    return self;
}

Array *we_native_array_new_like(native_state *state, we_array_dtype dtype, const we_array *shape) {
    return we_native_array_new(state, dtype, shape->rank, shape->dims);
}

Array *we_native_array_view(native_state *state, const Array *base, const we_array *view) {
    Array *self = allocate(state);
    if (self != NULL) {
        self->view = *view;
        self->block = base->block ? we_block_retain(base->block) : NULL;
        self->lender = Py_XNewRef(base->lender);
        self->readonly = base->readonly;
    }
    return self;
}

Array *we_native_array_copy(native_state *state, const Array *from, int dtype) {
    we_array_dtype wanted = dtype < 0 ? from->view.dtype : (we_array_dtype)dtype;
    Array *copy = we_native_array_new_like(state, wanted, &from->view);
    if (copy == NULL) {
        return NULL;
    }
    we_error error;
    we_status status;
    WE_NATIVE_RUN(we_native_count(&from->view), status, we_array_copy(&from->view, &copy->view, &error));
    if (status != WE_OK) {
        Py_DECREF(copy);
        return (Array *)we_native_array_raise(&error);
    }
    return copy;
}

static int dtype_of_block(we_dtype dtype) {
    for (int code = 0; code < WE_ARRAY_DTYPE_COUNT; code++) {
        if (STORED[code].per == 1 && STORED[code].block == dtype) {
            return code;
        }
    }
    return -1;
}

/* 16-bit floats have no arrays: they become float32. */
static Array *widen(native_state *state, const we_view *view) {
    Array *self = we_native_array_new(state, WE_ARRAY_F32, view->rank, view->dims);
    if (self == NULL) {
        return NULL;
    }
    float *to = (float *)self->view.data;
    const uint16_t *from = view->data;
    for (int64_t i = 0, count = we_native_count(&self->view); i < count; i++) {
        if (view->dtype == WE_F16) {
            to[i] = (float)PyFloat_Unpack2((const char *)&from[i], PY_LITTLE_ENDIAN);
        } else {
            uint32_t bits = (uint32_t)from[i] << 16;
            memcpy(&to[i], &bits, sizeof bits);
        }
    }
    return self;
}

Array *we_native_array_wrap(native_state *state, we_block *block) {
    we_view view = we_block_view(block);
    int dtype = dtype_of_block(view.dtype);
    Array *self = NULL;
    if (view.dtype == WE_F16 || view.dtype == WE_BF16) {
        self = widen(state, &view);
        we_block_release(block);
        return self;
    }
    if (dtype < 0) {
        PyErr_Format(PyExc_TypeError, "no array holds elements of %s: use the tensor's tolist()",
                     we_dtype_name(view.dtype));
    } else {
        self = allocate(state);
    }
    if (self == NULL) {
        we_block_release(block);
        return NULL;
    }
    self->block = block;
    self->view.dtype = (we_array_dtype)dtype;
    self->view.rank = view.rank;
    memcpy(self->view.dims, view.dims, sizeof self->view.dims);
    self->view.data = view.data;
    we_native_set_dense(&self->view);
    return self;
}

/* ---- From other things ---- */

static int dtype_of_format(const char *format, Py_ssize_t itemsize) {
    if (format == NULL) {
        format = "B";
    }
    if (strchr("@=<", *format) != NULL && *format != '\0') {
        format++;
    }
    if (strcmp(format, "Zf") == 0 || strcmp(format, "Zd") == 0) {
        return itemsize == 8 ? WE_ARRAY_C64 : WE_ARRAY_C128;
    }
    if (format[0] == '\0' || format[1] != '\0') {
        return -1;
    }
    char kind = strchr("fd", *format)       ? 'f'
                : strchr("bhilqn", *format) ? 'i'
                : strchr("BHILQN", *format) ? 'u'
                : *format == '?'            ? 'b'
                                            : 0;
    for (int code = 0; code < WE_ARRAY_DTYPE_COUNT; code++) {
        if (we_array_dtype_kind((we_array_dtype)code) == kind &&
            we_array_dtype_size((we_array_dtype)code) == itemsize) {
            return code;
        }
    }
    return -1;
}

/* Kernels read elements where they lie, by pointers of their type. */
static bool is_aligned(const Py_buffer *buffer, we_array_dtype dtype) {
    int64_t alignment = we_array_dtype_size(dtype) / STORED[dtype].per;
    bool aligned = (uintptr_t)buffer->buf % (uintptr_t)alignment == 0;
    for (int axis = 0; axis < buffer->ndim; axis++) {
        aligned = aligned && (buffer->shape[axis] < 2 || buffer->strides[axis] % alignment == 0);
    }
    return aligned;
}

static Array *from_unaligned(native_state *state, Py_buffer *buffer, we_array_dtype dtype) {
    int64_t dims[WE_MAX_RANK];
    for (int axis = 0; axis < buffer->ndim; axis++) {
        dims[axis] = buffer->shape[axis];
    }
    Array *self = we_native_array_new(state, dtype, buffer->ndim, dims);
    if (self != NULL && buffer->len > 0 &&
        PyBuffer_ToContiguous(self->view.data, buffer, buffer->len, 'C') < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static Array *from_half(native_state *state, PyObject *lender, const Py_buffer *buffer) {
    PyObject *bytes = PyObject_CallMethod(lender, "tobytes", NULL);
    if (bytes == NULL) {
        return NULL;
    }
    we_view view = {.dtype = WE_F16, .rank = buffer->ndim, .data = PyBytes_AS_STRING(bytes)};
    for (int axis = 0; axis < buffer->ndim; axis++) {
        view.dims[axis] = buffer->shape[axis];
    }
    Array *self = widen(state, &view);
    Py_DECREF(bytes);
    return self;
}

static void see_buffer(we_array *x, we_array_dtype dtype, const Py_buffer *buffer) {
    x->dtype = dtype;
    x->rank = buffer->ndim;
    x->data = buffer->buf;
    for (int axis = 0; axis < buffer->ndim; axis++) {
        x->dims[axis] = buffer->shape[axis];
        x->strides[axis] = buffer->strides[axis];
    }
}

/* Kernels take truth values for 0 or 1; what others lend may hold any byte. */
static bool has_only_truths(const Py_buffer *buffer) {
    we_array bytes;
    uint8_t most = 0;
    we_array out = {.dtype = WE_ARRAY_U8, .data = (char *)&most};
    see_buffer(&bytes, WE_ARRAY_U8, buffer);
    return buffer->len == 0 || (we_array_reduce(WE_ARRAY_REDUCE_max, WE_ARRAY_U8, &bytes,
                                                (1U << buffer->ndim) - 1, 1, &out, NULL) == WE_OK &&
                                most <= 1);
}

static Array *from_truths(native_state *state, Py_buffer *buffer) {
    Array *bytes = from_unaligned(state, buffer, WE_ARRAY_U8);
    Array *self = bytes ? we_native_array_copy(state, bytes, WE_ARRAY_BOOL) : NULL;
    Py_XDECREF(bytes);
    return self;
}

static Array *from_buffer(native_state *state, PyObject *value) {
    PyObject *lender = PyMemoryView_FromObject(value);
    if (lender == NULL) {
        return NULL;
    }
    Py_buffer *buffer = PyMemoryView_GET_BUFFER(lender);
    int dtype = dtype_of_format(buffer->format, buffer->itemsize);
    Array *self = NULL;
    if (buffer->ndim <= WE_MAX_RANK && buffer->format && strcmp(buffer->format, "e") == 0) {
        self = from_half(state, lender, buffer);
    } else if (dtype < 0 || buffer->ndim > WE_MAX_RANK || buffer->suboffsets != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "a buffer of format '%s' with %d dims cannot be an array: up to %d dims of "
                     "numbers can",
                     buffer->format ? buffer->format : "B", buffer->ndim, WE_MAX_RANK);
    } else if (dtype == WE_ARRAY_BOOL && !has_only_truths(buffer)) {
        self = from_truths(state, buffer);
    } else if (!is_aligned(buffer, (we_array_dtype)dtype)) {
        self = from_unaligned(state, buffer, (we_array_dtype)dtype);
    } else if ((self = allocate(state)) != NULL) {
        see_buffer(&self->view, (we_array_dtype)dtype, buffer);
        self->lender = Py_NewRef(lender);
        self->readonly = buffer->readonly;
    }
    Py_DECREF(lender);
    return self;
}

/* What nested sequences make together. */
typedef struct {
    int rank; /* -1 until the first element */
    int64_t dims[WE_MAX_RANK];
    int dtype; /* -1 until then */
} nest;

static bool is_sequence(PyObject *value) {
    return PyList_Check(value) || PyTuple_Check(value) ||
           (PySequence_Check(value) && !PyUnicode_Check(value) && !PyObject_CheckBuffer(value));
}

static int nest_dtype(nest *n, we_array_dtype dtype) {
    n->dtype = n->dtype < 0 ? (int)dtype : (int)we_native_dtype_promote((we_array_dtype)n->dtype, dtype);
    return 0;
}

/* The dims of elements at `depth` and below: all must agree. */
static int nest_leaf(nest *n, int depth, const we_array *leaf) {
    int rank = depth + (leaf ? leaf->rank : 0);
    if (n->rank < 0 && rank <= WE_MAX_RANK) {
        n->rank = rank;
        if (leaf != NULL) {
            memcpy(n->dims + depth, leaf->dims, (size_t)leaf->rank * sizeof *leaf->dims);
        }
        return 0;
    }
    bool same = rank == n->rank;
    for (int axis = depth; same && axis < rank; axis++) {
        same = n->dims[axis] == leaf->dims[axis - depth];
    }
    if (!same) {
        PyErr_Format(PyExc_ValueError,
                     rank > WE_MAX_RANK ? "nested more than %d deep"
                                        : "rows differ in length: an array of up to %d dims is a "
                                          "box",
                     WE_MAX_RANK);
        return -1;
    }
    return 0;
}

static int discover(native_state *state, PyObject *value, int depth, nest *n);

static int discover_items(native_state *state, PyObject *value, int depth, nest *n) {
    PyObject *items = PySequence_Tuple(value);
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t length = PyTuple_GET_SIZE(items);
    int result = 0;
    if (depth == WE_MAX_RANK || (n->rank >= 0 && (n->rank <= depth || n->dims[depth] != length))) {
        PyErr_Format(PyExc_ValueError, "rows differ in length, or are nested more than %d deep", WE_MAX_RANK);
        result = -1;
    }
    if (result == 0 && n->rank < 0) {
        n->dims[depth] = length;
        if (length == 0) {
            n->rank = depth + 1;
        }
    }
    for (Py_ssize_t i = 0; result == 0 && i < length; i++) {
        result = discover(state, PyTuple_GET_ITEM(items, i), depth + 1, n);
    }
    Py_DECREF(items);
    return result;
}

static int discover(native_state *state, PyObject *value, int depth, nest *n) {
    if (we_native_is_number(value)) {
        we_array_dtype dtype = we_native_number_dtype(value);
        int overflow = 0;
        if (dtype == WE_ARRAY_I64 && PyLong_AsLongLongAndOverflow(value, &overflow) == -1 && overflow > 0) {
            dtype = WE_ARRAY_U64;
        }
        nest_dtype(n, dtype);
        return nest_leaf(n, depth, NULL);
    }
    if (we_native_is_array(value)) {
        nest_dtype(n, we_native_view(value)->dtype);
        return nest_leaf(n, depth, we_native_view(value));
    }
    if (is_sequence(value)) {
        return discover_items(state, value, depth, n);
    }
    Array *leaf = we_native_array_from(state, value, -1);
    if (leaf == NULL) {
        return -1;
    }
    nest_dtype(n, leaf->view.dtype);
    int result = nest_leaf(n, depth, &leaf->view);
    Py_DECREF(leaf);
    return result;
}

/* Store `value` as the part of `to` that has lost its first dims. Other code may have run since: check anew.
 */
static int nest_fill(native_state *state, PyObject *value, const we_array *to) {
    if (to->rank == 0 && we_native_is_number(value)) {
        return we_native_number_store(value, to->dtype, to->data);
    }
    if (!is_sequence(value) || we_native_is_array(value)) {
        we_error error;
        Array *leaf = we_native_array_from(state, value, -1);
        if (leaf == NULL) {
            return -1;
        }
        we_status status = we_array_copy(&leaf->view, to, &error);
        Py_DECREF(leaf);
        if (status != WE_OK) {
            we_native_array_raise(&error);
            return -1;
        }
        return 0;
    }
    PyObject *items = PySequence_Tuple(value);
    if (items == NULL) {
        return -1;
    }
    int result = 0;
    if (to->rank == 0 || PyTuple_GET_SIZE(items) != to->dims[0]) {
        PyErr_SetString(PyExc_ValueError, "rows differ in length: an array is a box");
        result = -1;
    }
    we_array part = *to;
    part.rank--;
    memmove(part.dims, to->dims + 1, sizeof part.dims - sizeof *part.dims);
    memmove(part.strides, to->strides + 1, sizeof part.strides - sizeof *part.strides);
    for (Py_ssize_t i = 0; result == 0 && i < to->dims[0]; i++) {
        part.data = to->data + i * to->strides[0];
        result = nest_fill(state, PyTuple_GET_ITEM(items, i), &part);
    }
    Py_DECREF(items);
    return result;
}

static Array *from_nested(native_state *state, PyObject *value, int dtype) {
    nest n = {.rank = -1, .dtype = -1};
    if (discover(state, value, 0, &n) < 0) {
        return NULL;
    }
    int found = n.dtype < 0 ? WE_ARRAY_F64 : n.dtype;
    if (dtype >= 0 && we_array_dtype_kind((we_array_dtype)found) == 'c' &&
        we_array_dtype_kind((we_array_dtype)dtype) != 'c') {
        PyErr_Format(PyExc_TypeError, "complex numbers do not fit %s: take real() or abs() of them",
                     we_array_dtype_name((we_array_dtype)dtype));
        return NULL;
    }
    we_array_dtype wanted = (we_array_dtype)(dtype < 0 ? found : dtype);
    Array *self = we_native_array_new(state, wanted, n.rank, n.dims);
    if (self != NULL && nest_fill(state, value, &self->view) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

Array *we_native_array_from(native_state *state, PyObject *value, int dtype) {
    Array *self;
    if (we_native_is_array(value)) {
        self = (Array *)Py_NewRef(value);
    } else if (Py_IS_TYPE(value, state->tensor_type)) {
        self = we_native_array_wrap(state, we_block_retain(((Tensor *)value)->block));
    } else if (we_native_is_number(value) || PyList_Check(value) || PyTuple_Check(value)) {
        return from_nested(state, value, dtype);
    } else if (PyObject_CheckBuffer(value)) {
        self = from_buffer(state, value);
    } else if (is_sequence(value)) {
        return from_nested(state, value, dtype);
    } else {
        PyErr_Format(PyExc_TypeError,
                     "a %.100s cannot be an array: numbers, sequences of numbers and buffers can",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    if (self != NULL && dtype >= 0 && (int)self->view.dtype != dtype) {
        Py_SETREF(self, we_native_array_copy(state, self, dtype));
    }
    return self;
}

Array *we_native_array_dense(native_state *state, PyObject *value, int dtype, bool fresh) {
    Array *self = we_native_array_from(state, value, dtype);
    bool own = self != NULL && (PyObject *)self != value && self->block != NULL &&
               !Py_IS_TYPE(value, state->tensor_type);
    if (self != NULL && ((fresh && !own) || !we_native_is_dense(&self->view))) {
        Py_SETREF(self, we_native_array_copy(state, self, -1));
    }
    return self;
}

PyObject *we_native_array_expected(const char *function, PyObject *value) {
    return PyErr_Format(PyExc_TypeError, "%s() takes an array, not a %.100s", function,
                        Py_TYPE(value)->tp_name);
}

/* ---- Arguments of calls ---- */

static int argument_place(const char *const *names, int positional, PyObject *name) {
    for (int i = 0; names[i] != NULL; i++) {
        if (i >= positional && PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int we_native_arguments(const char *function, const char *const *names, int positional, int keywords,
                        int required, PyObject *const *args, Py_ssize_t count, PyObject *kwnames,
                        PyObject **out) {
    if (count > keywords) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d arguments by place, not %zd", function, keywords, count);
        return -1;
    }
    memcpy(out, args, (size_t)count * sizeof *args);
    for (Py_ssize_t i = 0, n = kwnames ? PyTuple_GET_SIZE(kwnames) : 0; i < n; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        int place = argument_place(names, positional, name);
        if (place < 0 || place < count) {
            PyErr_Format(PyExc_TypeError, place < 0 ? "%s() has no keyword argument %R" : "%s() got %R twice",
                         function, name);
            return -1;
        }
        out[place] = args[count + i];
    }
    for (int i = 0; i < required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() lacks its argument %s", function, names[i]);
            return -1;
        }
    }
    return 0;
}

int we_native_ints(const char *function, const char *name, PyObject *value, int64_t *out, int most) {
    if (PyIndex_Check(value) && !PyTuple_Check(value)) {
        Py_ssize_t number = PyNumber_AsSsize_t(value, PyExc_OverflowError);
        *out = number;
        return number == -1 && PyErr_Occurred() ? -1 : 1;
    }
    PyObject *items = PySequence_Tuple(value); /* nobody can change it while __index__ of an item runs */
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    if (count > most) {
        PyErr_Format(PyExc_ValueError, "%s(): %s has %zd numbers, at most %d are allowed", function, name,
                     count, most);
        count = -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        out[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(items, i), PyExc_OverflowError);
        if (out[i] == -1 && PyErr_Occurred()) {
            count = -1;
        }
    }
    Py_DECREF(items);
    return (int)count;
}

int we_native_axis(const char *function, PyObject *value, int rank) {
    Py_ssize_t axis = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (axis == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (axis < -rank || axis >= rank) {
        PyErr_Format(PyExc_IndexError, "%s(): there is no axis %zd in an array of %d dims", function, axis,
                     rank);
        return -1;
    }
    return (int)(axis < 0 ? axis + rank : axis);
}

/* ---- The type ---- */

static void array_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    Array *self = (Array *)op;
    we_block_release(self->block);
    Py_XDECREF(self->lender);
    type->tp_free(op);
    Py_DECREF(type);
}

bool we_native_is_array(const PyObject *object) {
    return Py_TYPE(object)->tp_dealloc == array_dealloc;
}

static PyObject *tuple_of(const int64_t *numbers, int count) {
    PyObject *tuple = PyTuple_New(count);
    for (int i = 0; tuple != NULL && i < count; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i]);
        if (number == NULL) {
            Py_CLEAR(tuple);
        } else {
            PyTuple_SET_ITEM(tuple, i, number);
        }
    }
    return tuple;
}

static PyObject *array_get_shape(PyObject *op, void *Py_UNUSED(closure)) {
    return tuple_of(we_native_view(op)->dims, we_native_view(op)->rank);
}

static PyObject *array_get_strides(PyObject *op, void *Py_UNUSED(closure)) {
    return tuple_of(we_native_view(op)->strides, we_native_view(op)->rank);
}

static PyObject *array_get_dtype(PyObject *op, void *Py_UNUSED(closure)) {
    return we_native_dtype_object(we_native_state(op), we_native_view(op)->dtype);
}

static PyObject *array_get_ndim(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromLong(we_native_view(op)->rank);
}

static PyObject *array_get_size(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(we_native_count(we_native_view(op)));
}

static PyObject *array_get_itemsize(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(we_array_dtype_size(we_native_view(op)->dtype));
}

static PyObject *array_get_nbytes(PyObject *op, void *Py_UNUSED(closure)) {
    const we_array *view = we_native_view(op);
    return PyLong_FromLongLong(we_native_count(view) * we_array_dtype_size(view->dtype));
}

static PyObject *array_get_device(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure)) {
    return PyUnicode_FromString("cpu");
}

static PyObject *array_get_transposed(PyObject *op, void *Py_UNUSED(closure)) {
    we_array view = *we_native_view(op);
    for (int axis = 0; axis < view.rank; axis++) {
        view.dims[axis] = we_native_view(op)->dims[view.rank - 1 - axis];
        view.strides[axis] = we_native_view(op)->strides[view.rank - 1 - axis];
    }
    return (PyObject *)we_native_array_view(we_native_state(op), (Array *)op, &view);
}

static PyObject *array_get_matrix_transposed(PyObject *op, void *Py_UNUSED(closure)) {
    we_array view = *we_native_view(op);
    int last = view.rank - 1;
    if (last < 1) {
        return PyErr_Format(PyExc_ValueError, "mT takes an array of two dims or more, not of %d", last + 1);
    }
    view.dims[last] = we_native_view(op)->dims[last - 1];
    view.dims[last - 1] = we_native_view(op)->dims[last];
    view.strides[last] = we_native_view(op)->strides[last - 1];
    view.strides[last - 1] = we_native_view(op)->strides[last];
    return (PyObject *)we_native_array_view(we_native_state(op), (Array *)op, &view);
}

static PyObject *list_from(const we_array *view, int axis, const char *from) {
    if (axis == view->rank) {
        return we_native_number_load(view->dtype, from);
    }
    PyObject *list = PyList_New((Py_ssize_t)view->dims[axis]);
    for (Py_ssize_t i = 0; list != NULL && i < view->dims[axis]; i++) {
        PyObject *item = list_from(view, axis + 1, from + i * view->strides[axis]);
        if (item == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, item);
        }
    }
    return list;
}

static PyObject *array_tolist(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return list_from(we_native_view(op), 0, we_native_view(op)->data);
}

static PyObject *array_item(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    const we_array *view = we_native_view(op);
    if (we_native_count(view) != 1) {
        return PyErr_Format(PyExc_ValueError, "an array of %lld elements is not one number",
                            (long long)we_native_count(view));
    }
    return we_native_number_load(view->dtype, view->data);
}

static PyObject *the_number(PyObject *op, const char *what) {
    const we_array *view = we_native_view(op);
    if (view->rank != 0 && we_native_count(view) != 1) {
        return PyErr_Format(PyExc_TypeError,
                            "an array of %lld elements is no %s: index it, or use any() or all()",
                            (long long)we_native_count(view), what);
    }
    return we_native_number_load(view->dtype, view->data);
}

static int array_bool(PyObject *op) {
    if (we_native_count(we_native_view(op)) != 1) {
        PyErr_SetString(PyExc_ValueError,
                        "the truth of an array of more or less than one element is ambiguous: use "
                        "any() or all()");
        return -1;
    }
    PyObject *number = the_number(op, "truth value");
    int truth = number ? PyObject_IsTrue(number) : -1;
    Py_XDECREF(number);
    return truth;
}

static PyObject *convert_number(PyObject *op, const char *what, PyObject *(*convert)(PyObject *)) {
    PyObject *number = the_number(op, what);
    PyObject *result = number ? convert(number) : NULL;
    Py_XDECREF(number);
    return result;
}

static PyObject *array_int(PyObject *op) {
    return convert_number(op, "integer", PyNumber_Long);
}

static PyObject *array_float(PyObject *op) {
    return convert_number(op, "float", PyNumber_Float);
}

static PyObject *array_complex(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    PyObject *number = the_number(op, "complex number");
    Py_complex value = number ? PyComplex_AsCComplex(number) : (Py_complex){0};
    Py_XDECREF(number);
    return PyErr_Occurred() ? NULL : PyComplex_FromCComplex(value);
}

static PyObject *array_index(PyObject *op) {
    const we_array *view = we_native_view(op);
    char kind = we_array_dtype_kind(view->dtype);
    if (view->rank != 0 || (kind != 'i' && kind != 'u')) {
        return PyErr_Format(PyExc_TypeError, "only an array of one integer and no dims can be an index");
    }
    return we_native_number_load(view->dtype, view->data);
}

/* A handle carries a block and no view: what is not one whole block is copied. */
static PyObject *array_handle(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    native_state *state = we_native_state(op);
    Array *self = (Array *)op;
    if (STORED[self->view.dtype].per != 1) {
        return PyErr_Format(PyExc_TypeError, "complex arrays have no handle: send real() and imag()");
    }
    Array *whole = NULL;
    we_view block = self->block ? we_block_view(self->block) : (we_view){0};
    bool is_whole = self->block && block.rank == self->view.rank && block.data == self->view.data &&
                    memcmp(block.dims, self->view.dims, (size_t)block.rank * sizeof *block.dims) == 0 &&
                    we_native_is_dense(&self->view) && block.dtype == STORED[self->view.dtype].block;
    whole = is_whole ? (Array *)Py_NewRef(op) : we_native_array_copy(state, self, -1);
    if (whole == NULL) {
        return NULL;
    }
    uint64_t handle;
    we_error error;
    we_status status = we_block_export(whole->block, &handle, &error);
    Py_DECREF(whole);
    return status == WE_OK ? PyLong_FromUnsignedLongLong(handle) : we_native_raise(&error);
}

static PyObject *array_from_handle(PyObject *type, PyObject *number) {
    native_state *state = PyType_GetModuleState((PyTypeObject *)type);
    PyObject *tensor = PyObject_CallMethod((PyObject *)state->tensor_type, "from_handle", "O", number);
    if (tensor == NULL) {
        return NULL;
    }
    Array *self = we_native_array_from(state, tensor, -1);
    Py_DECREF(tensor);
    return (PyObject *)self;
}

static int array_getbuffer(PyObject *op, Py_buffer *buffer, int flags) {
    static char nothing; /* an empty array may have no memory, but a buffer must point somewhere */
    Array *self = (Array *)op;
    bool dense = we_native_is_dense(&self->view);
    const char *problem = NULL;
    if ((flags & PyBUF_WRITABLE) && self->readonly) {
        problem = "the array's memory is read-only";
    } else if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && self->view.rank > 1) {
        problem = "arrays are lent row by row, not column by column";
    } else if (!dense && ((flags & PyBUF_STRIDES) != PyBUF_STRIDES ||
                          (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS ||
                          (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS)) {
        problem = "the array is a view whose elements do not lie together: copy() it first";
    }
    if (problem != NULL) {
        PyErr_SetString(PyExc_BufferError, problem);
        buffer->obj = NULL;
        return -1;
    }
    Py_ssize_t size = (Py_ssize_t)we_array_dtype_size(self->view.dtype);
    *buffer = (Py_buffer){
        .buf = self->view.data ? self->view.data : &nothing,
        .obj = Py_NewRef(op),
        .len = (Py_ssize_t)we_native_count(&self->view) * size,
        .itemsize = size,
        .readonly = self->readonly,
        .ndim = (flags & PyBUF_ND) ? self->view.rank : 1,
        .format = (flags & PyBUF_FORMAT) ? (char *)STORED[self->view.dtype].format : NULL,
        .shape = (flags & PyBUF_ND) ? (Py_ssize_t *)self->view.dims : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? (Py_ssize_t *)self->view.strides : NULL,
    };
    return 0;
}
static_assert(sizeof(Py_ssize_t) == sizeof(int64_t), "a buffer shows an array's own dims and strides");

static PyObject *array_namespace(PyObject *op, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"api_version", NULL};
    native_state *state = we_native_state(op);
    PyObject *version = NULL;
    if (we_native_arguments("__array_namespace__", names, 0, 0, 0, args, count, kwnames, &version) < 0) {
        return NULL;
    }
    if (version != NULL && version != Py_None &&
        !(PyUnicode_Check(version) && (PyUnicode_CompareWithASCIIString(version, "2024.12") == 0 ||
                                       PyUnicode_CompareWithASCIIString(version, "2023.12") == 0 ||
                                       PyUnicode_CompareWithASCIIString(version, "2022.12") == 0))) {
        return PyErr_Format(PyExc_ValueError, "array API version %R is not here: 2024.12 is", version);
    }
    if (state->array_namespace == NULL) {
        return PyErr_Format(PyExc_RuntimeError, "import walle_task.matrix first");
    }
    return Py_NewRef(state->array_namespace);
}

static PyObject *native_set_array_namespace(PyObject *module, PyObject *namespace) {
    native_state *state = PyModule_GetState(module);
    Py_XSETREF(state->array_namespace, Py_NewRef(namespace));
    Py_RETURN_NONE;
}

/* The namespace prints like NumPy; without it, the numbers have to do. */
static PyObject *array_repr(PyObject *op) {
    native_state *state = we_native_state(op);
    if (state->array_namespace != NULL) {
        return PyObject_CallMethod(state->array_namespace, "array_repr", "O", op);
    }
    PyObject *list = array_tolist(op, NULL);
    PyObject *text = list ? PyUnicode_FromFormat("Array(%R, dtype=%s)", list,
                                                 we_array_dtype_name(we_native_view(op)->dtype))
                          : NULL;
    Py_XDECREF(list);
    return text;
}

static PyObject *array_str(PyObject *op) {
    native_state *state = we_native_state(op);
    return state->array_namespace ? PyObject_CallMethod(state->array_namespace, "array_str", "O", op)
                                  : array_repr(op);
}

/* asarray(obj, /, *, dtype=None, device=None, copy=None) */
static PyObject *native_asarray(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                PyObject *kwnames) {
    static const char *const names[] = {"obj", "dtype", "device", "copy", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[4] = {NULL};
    if (we_native_arguments("asarray", names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    int dtype = we_native_dtype_parse(state, given[1], -1);
    if (dtype < 0 && PyErr_Occurred()) {
        return NULL;
    }
    Array *self = we_native_array_from(state, given[0], dtype);
    bool shares = self != NULL && ((PyObject *)self == given[0] || self->lender != NULL ||
                                   Py_IS_TYPE(given[0], state->tensor_type));
    if (self != NULL && given[3] == Py_True && shares) {
        Py_SETREF(self, we_native_array_copy(state, self, -1));
    }
    if (self != NULL && given[3] == Py_False && !shares) {
        Py_DECREF(self);
        return PyErr_Format(PyExc_ValueError,
                            "asarray(): this cannot be done without a copy: leave copy out");
    }
    return (PyObject *)self;
}

PyMethodDef we_native_array_functions[] = {
    {"asarray", (PyCFunction)(void (*)(void))native_asarray, METH_FASTCALL | METH_KEYWORDS,
     "asarray($module, obj, /, dtype=None, *, device=None, copy=None)\n--\n\nMake an array of numbers, "
     "nested "
     "sequences, a buffer or a tensor; without a copy where that can be."},
    {"set_array_namespace", native_set_array_namespace, METH_O,
     "Set what __array_namespace__ of arrays returns, and who prints them."},
    {0},
};

static Py_ssize_t array_length(PyObject *op) {
    if (we_native_view(op)->rank == 0) {
        PyErr_SetString(PyExc_TypeError, "an array without dims has no length");
        return -1;
    }
    return (Py_ssize_t)we_native_view(op)->dims[0];
}

/* What iterating asks for. */
static PyObject *array_sequence_item(PyObject *op, Py_ssize_t index) {
    PyObject *key = PyLong_FromSsize_t(index);
    PyObject *item = key ? we_native_array_getitem(op, key) : NULL;
    Py_XDECREF(key);
    return item;
}

static PyMethodDef array_methods[] = {
    {"tolist", array_tolist, METH_NOARGS, "Return the elements as nested lists of Python numbers."},
    {"item", array_item, METH_NOARGS, "Return the one element as a Python number."},
    {"__complex__", array_complex, METH_NOARGS, "Return the one element as a complex number."},
    {"handle", array_handle, METH_NOARGS, "Export one reference, to be imported once, in any interpreter."},
    {"from_handle", array_from_handle, METH_O | METH_CLASS, "Import the reference that handle() exported."},
    {"__array_namespace__", (PyCFunction)(void (*)(void))array_namespace, METH_FASTCALL | METH_KEYWORDS,
     "Return the module whose functions take arrays."},
    {0},
};
static PyGetSetDef array_getset[] = {
    {"shape", array_get_shape, NULL, "Sizes, outermost first.", NULL},
    {"dtype", array_get_dtype, NULL, "Type of the elements.", NULL},
    {"ndim", array_get_ndim, NULL, "Number of dimensions.", NULL},
    {"size", array_get_size, NULL, "Number of elements.", NULL},
    {"device", array_get_device, NULL, "Where the elements are: 'cpu'.", NULL},
    {"T", array_get_transposed, NULL, "A view with the dimensions in the opposite order.", NULL},
    {"mT", array_get_matrix_transposed, NULL, "A view with the last two dimensions exchanged.", NULL},
    {"itemsize", array_get_itemsize, NULL, "Bytes of an element.", NULL},
    {"nbytes", array_get_nbytes, NULL, "Bytes of all elements.", NULL},
    {"strides", array_get_strides, NULL, "Bytes from one element to the next, of each dimension.", NULL},
    {0},
};
static PyType_Slot array_slots[] = {
    {Py_tp_doc, "Numbers of one type in up to eight dimensions; a view of memory that others may share."},
    {Py_tp_dealloc, array_dealloc},
    {Py_tp_repr, array_repr},
    {Py_tp_str, array_str},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_methods, array_methods},
    {Py_tp_getset, array_getset},
    {Py_bf_getbuffer, array_getbuffer},
    {Py_tp_richcompare, we_native_array_richcompare},
#define OPERATOR(slot, fn)                                                                                   \
    {Py_nb_##slot, we_native_array_##slot}, {Py_nb_inplace_##slot, we_native_array_inplace_##slot},
#include "array_operators.inc"
#undef OPERATOR
    {Py_mp_subscript, we_native_array_getitem},
    {Py_mp_ass_subscript, we_native_array_setitem},
    {Py_mp_length, array_length},
    {Py_sq_length, array_length},
    {Py_sq_item, array_sequence_item},
    {Py_nb_matrix_multiply, we_native_array_matmul},
    {Py_nb_inplace_matrix_multiply, we_native_array_inplace_matmul},
    {Py_nb_power, we_native_array_power},
    {Py_nb_inplace_power, we_native_array_inplace_power},
    {Py_nb_divmod, we_native_array_divmod},
    {Py_nb_negative, we_native_array_negative},
    {Py_nb_positive, we_native_array_positive},
    {Py_nb_absolute, we_native_array_absolute},
    {Py_nb_invert, we_native_array_invert},
    {Py_nb_bool, array_bool},
    {Py_nb_int, array_int},
    {Py_nb_float, array_float},
    {Py_nb_index, array_index},
    {0, NULL},
};
PyType_Spec we_native_array_spec = {
    .name = "walle_engine._native.Array",
    .basicsize = sizeof(Array),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, /* immutable once it has all its methods */
    .slots = array_slots,
};
