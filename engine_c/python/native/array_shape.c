/* Making arrays, and giving their elements other shapes. Views where that can be. */
#include "array.h" /* first, as Python.h must be */

#include <math.h>
#include <string.h>

static int fill(Array *array, PyObject *number) {
    char element[16];
    we_error error;
    we_status status;
    we_array value = {.dtype = array->view.dtype, .data = element};
    if (we_native_number_store(number, array->view.dtype, element) < 0) {
        return -1;
    }
    WE_NATIVE_RUN(we_native_count(&array->view), status, we_array_copy(&value, &array->view, &error));
    if (status != WE_OK) {
        we_native_array_raise(&error);
        return -1;
    }
    return 0;
}

static int shape_of(const char *function, PyObject *value, int64_t *dims) {
    int rank = we_native_ints(function, "shape", value, dims, WE_MAX_RANK);
    for (int axis = 0; axis < rank; axis++) {
        if (dims[axis] < 0) {
            PyErr_Format(PyExc_ValueError, "%s(): a dim cannot be %lld", function, (long long)dims[axis]);
            return -1;
        }
    }
    return rank;
}

/* ---- empty, zeros, ones, full ---- */

/* `number`: what to fill with; NULL for nothing. full() has its number as a second argument. */
static PyObject *filled(native_state *state, const char *function, PyObject *number, bool full,
                        PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const plain_names[] = {"shape", "dtype", "device", NULL};
    static const char *const full_names[] = {"shape", "fill_value", "dtype", "device", NULL};
    PyObject *given[4] = {NULL};
    int64_t dims[WE_MAX_RANK];
    if (we_native_arguments(function, full ? full_names : plain_names, 0, full ? 3 : 2, full ? 2 : 1, args,
                            count, kwnames, given) < 0) {
        return NULL;
    }
    PyObject *value = full ? given[1] : number, *held = NULL;
    if (full && we_native_is_array(value)) {
        value = held = PyObject_CallMethod(value, "item", NULL);
    }
    if (full && (value == NULL || !we_native_is_number(value))) {
        Py_XDECREF(held);
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "full() fills with a number");
    }
    int dtype = we_native_dtype_parse(state, given[full ? 2 : 1],
                                      full ? (int)we_native_number_dtype(value) : WE_ARRAY_F64);
    int rank = dtype < 0 ? -1 : shape_of(function, given[0], dims);
    Array *self = rank < 0 ? NULL : we_native_array_new(state, (we_array_dtype)dtype, rank, dims);
    if (self != NULL && value != NULL && fill(self, value) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(held);
    return (PyObject *)self;
}

#define FILLED(name, number, full)                                                                           \
    static PyObject *native_##name(PyObject *module, PyObject *const *args, Py_ssize_t count,                \
                                   PyObject *kwnames) {                                                      \
        PyObject *value = number;                                                                            \
        PyObject *result = filled(PyModule_GetState(module), #name, value, full, args, count, kwnames);      \
        Py_XDECREF(value);                                                                                   \
        return result;                                                                                       \
    }
FILLED(empty, NULL, false)
FILLED(zeros, PyLong_FromLong(0), false)
FILLED(ones, PyLong_FromLong(1), false)
FILLED(full, NULL, true)

/* ---- arange, linspace ---- */

/* arange(start, /, stop=None, step=1, *, dtype=None, device=None) */
static PyObject *native_arange(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"start", "stop", "step", "dtype", "device", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[5] = {NULL};
    if (we_native_arguments("arange", names, 0, 4, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    bool alone = given[1] == NULL || given[1] == Py_None;
    PyObject *ends[3] = {alone ? NULL : given[0], alone ? given[0] : given[1], given[2]};
    double numbers[3] = {0, 0, 1};
    long long whole[3] = {0, 0, 1};
    bool floating = false;
    for (int i = 0; i < 3; i++) {
        if (ends[i] == NULL) {
            continue;
        }
        floating = floating || !PyIndex_Check(ends[i]);
        numbers[i] = PyFloat_AsDouble(ends[i]);
        if (numbers[i] == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
    }
    for (int i = 0; !floating && i < 3; i++) {
        whole[i] = ends[i] ? PyNumber_AsSsize_t(ends[i], PyExc_OverflowError) : whole[i];
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    if (numbers[2] == 0 || !isfinite(numbers[0]) || !isfinite(numbers[1]) || isnan(numbers[2])) {
        return PyErr_Format(PyExc_ValueError, "arange() needs finite ends and a step other than 0");
    }
    int dtype = we_native_dtype_parse(state, given[3], floating ? WE_ARRAY_F64 : WE_ARRAY_I64);
    double length = ceil((numbers[1] - numbers[0]) / numbers[2]);
    int64_t n = length > 0 ? (length < 1e18 ? (int64_t)length : INT64_MAX) : 0;
    if (!floating && length > 0) { /* exact, also beyond 2^53 */
        long long span = whole[1] - whole[0];
        n = span / whole[2] + (span % whole[2] != 0);
    }
    Array *self =
        dtype < 0 ? NULL : we_native_array_new(state, floating ? WE_ARRAY_F64 : WE_ARRAY_I64, 1, &n);
    if (self == NULL) {
        return NULL;
    }
    double second = numbers[0] + numbers[2], step = second - numbers[0]; /* rounded where NumPy rounds */
    for (int64_t i = 0; floating && i < n; i++) {
        ((double *)self->view.data)[i] = i == 1 ? second : numbers[0] + (double)i * step;
    }
    for (int64_t i = 0; !floating && i < n; i++) {
        ((int64_t *)self->view.data)[i] = whole[0] + i * whole[2];
    }
    if (dtype != (int)self->view.dtype) {
        Py_SETREF(self, we_native_array_copy(state, self, dtype));
    }
    return (PyObject *)self;
}

/* ---- Views ---- */

/* Can `dims` be had of x without moving elements? Fills in the strides. */
static bool reshaped_view(const we_array *x, we_array *view) {
    int32_t from = 0, to = 0;
    if (we_native_count(x) == 0 || we_native_is_dense(x)) {
        we_native_set_dense(view);
        return true;
    }
    while (from < x->rank && to < view->rank) { /* groups of dims that hold as many elements */
        int64_t old_count = x->dims[from], new_count = view->dims[to];
        int32_t old_first = from, new_first = to;
        while (old_count != new_count) {
            if (old_count < new_count) {
                old_count *= x->dims[++from];
            } else {
                new_count *= view->dims[++to];
            }
        }
        int64_t stride = 0, expected = 0;
        bool any = false;
        for (int32_t axis = from; axis >= old_first; axis--) {
            if (x->dims[axis] == 1) {
                continue;
            }
            if (any && x->strides[axis] != expected) {
                return false;
            }
            stride = any ? stride : x->strides[axis];
            expected = x->strides[axis] * x->dims[axis];
            any = true;
        }
        for (int32_t axis = to; axis >= new_first; axis--) {
            view->strides[axis] = stride;
            stride *= view->dims[axis];
        }
        from++;
        to++;
    }
    for (; to < view->rank; to++) { /* ones */
        view->strides[to] = 0;
    }
    return true;
}

static PyObject *reshape(native_state *state, PyObject *value, PyObject *shape, PyObject *copy) {
    int64_t dims[WE_MAX_RANK], known = 1;
    int rank = we_native_ints("reshape", "shape", shape, dims, WE_MAX_RANK), free_axis = -1;
    Array *x = rank < 0 ? NULL : we_native_array_from(state, value, -1);
    Array *result = NULL;
    if (x == NULL) {
        return NULL;
    }
    int64_t elements = we_native_count(&x->view);
    bool fits = true;
    for (int axis = 0; axis < rank; axis++) {
        if (dims[axis] == -1 && free_axis < 0) {
            free_axis = axis;
        } else {
            fits = fits && dims[axis] >= 0 && !__builtin_mul_overflow(known, dims[axis], &known);
        }
    }
    if (fits && free_axis >= 0) {
        fits = known > 0 && elements % known == 0;
        dims[free_axis] = fits ? elements / known : 0;
        known = fits ? elements : -1;
    }
    if (!fits || known != elements) {
        PyErr_Format(PyExc_ValueError, "reshape(): %lld elements do not fit shape %S", (long long)elements,
                     shape);
        goto done;
    }
    we_array view = {.dtype = x->view.dtype, .rank = rank, .data = x->view.data};
    memcpy(view.dims, dims, (size_t)rank * sizeof *dims);
    bool shares = reshaped_view(&x->view, &view);
    if (!shares && copy == Py_False) {
        PyErr_SetString(PyExc_ValueError,
                        "reshape(): this shape cannot be had without a copy: leave copy out");
        goto done;
    }
    if (!shares || copy == Py_True) {
        Py_SETREF(x, we_native_array_copy(state, x, -1));
        if (x == NULL) {
            return NULL;
        }
        view.data = x->view.data;
        we_native_set_dense(&view);
    }
    result = we_native_array_view(state, x, &view);
done:
    Py_DECREF(x);
    return (PyObject *)result;
}

/* reshape(x, /, shape, *, copy=None) */
static PyObject *native_reshape(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                PyObject *kwnames) {
    static const char *const names[] = {"x", "shape", "copy", NULL};
    PyObject *given[3] = {NULL};
    if (we_native_arguments("reshape", names, 1, 2, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    return reshape(PyModule_GetState(module), given[0], given[1], given[2]);
}

/* x.reshape(2, 3) as well as x.reshape((2, 3)) */
static PyObject *method_reshape(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    if (count == 1 || kwnames != NULL) {
        return we_native_as_method(native_reshape, self, args, count, kwnames);
    }
    PyObject *shape = PyTuple_New(count);
    for (Py_ssize_t i = 0; shape != NULL && i < count; i++) {
        PyTuple_SET_ITEM(shape, i, Py_NewRef(args[i]));
    }
    PyObject *result = shape ? reshape(we_native_state(self), self, shape, NULL) : NULL;
    Py_XDECREF(shape);
    return result;
}

static PyObject *permute(native_state *state, PyObject *value, PyObject *order) {
    int64_t axes[WE_MAX_RANK];
    uint32_t seen = 0;
    int count = we_native_ints("permute_dims", "axes", order, axes, WE_MAX_RANK);
    Array *x = count < 0 ? NULL : we_native_array_from(state, value, -1), *result = NULL;
    if (x == NULL) {
        return NULL;
    }
    we_array view = x->view;
    for (int i = 0; i < count && count == view.rank; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + view.rank : axes[i];
        if (axis < 0 || axis >= view.rank) {
            break;
        }
        seen |= 1u << axis;
        view.dims[i] = x->view.dims[axis];
        view.strides[i] = x->view.strides[axis];
    }
    if (count != view.rank || seen != (1u << view.rank) - 1) {
        PyErr_Format(PyExc_ValueError, "permute_dims(): %S is no order of %d axes", order, (int)x->view.rank);
    } else {
        result = we_native_array_view(state, x, &view);
    }
    Py_DECREF(x);
    return (PyObject *)result;
}

/* permute_dims(x, /, axes) */
static PyObject *native_permute_dims(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                     PyObject *kwnames) {
    static const char *const names[] = {"x", "axes", NULL};
    PyObject *given[2] = {NULL};
    if (we_native_arguments("permute_dims", names, 1, 2, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    return permute(PyModule_GetState(module), given[0], given[1]);
}

/* x.transpose(), x.transpose(1, 0), x.transpose((1, 0)) */
static PyObject *method_transpose(PyObject *self, PyObject *args) {
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    if (count == 0) {
        return PyObject_GetAttrString(self, "T");
    }
    bool one = count == 1 && !PyIndex_Check(PyTuple_GET_ITEM(args, 0));
    return permute(we_native_state(self), self, one ? PyTuple_GET_ITEM(args, 0) : args);
}

/* broadcast_to(x, /, shape) */
static PyObject *native_broadcast_to(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                     PyObject *kwnames) {
    static const char *const names[] = {"x", "shape", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[2] = {NULL};
    we_array view = {0};
    if (we_native_arguments("broadcast_to", names, 1, 2, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    view.rank = shape_of("broadcast_to", given[1], view.dims);
    Array *x = view.rank < 0 ? NULL : we_native_array_from(state, given[0], -1), *result = NULL;
    if (x == NULL) {
        return NULL;
    }
    int added = view.rank - x->view.rank;
    bool fits = added >= 0;
    for (int axis = 0; fits && axis < view.rank; axis++) {
        int64_t dim = axis < added ? 1 : x->view.dims[axis - added];
        fits = dim == 1 || dim == view.dims[axis];
        view.strides[axis] = dim == 1 ? 0 : x->view.strides[axis - added];
    }
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "broadcast_to(): an array of %d dims does not stretch to %S",
                     (int)x->view.rank, given[1]);
    } else {
        view.dtype = x->view.dtype;
        view.data = x->view.data;
        result = we_native_array_view(state, x, &view);
        if (result != NULL) {
            result->readonly = true; /* one element is at many places */
        }
    }
    Py_DECREF(x);
    return (PyObject *)result;
}

/* flip(x, /, *, axis=None) */
static PyObject *native_flip(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "axis", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[2] = {NULL};
    int64_t axes[WE_MAX_RANK];
    if (we_native_arguments("flip", names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    Array *x = we_native_array_from(state, given[0], -1), *result = NULL;
    bool all = given[1] == NULL || given[1] == Py_None;
    int named = x == NULL ? -1
                : all     ? x->view.rank
                          : we_native_ints("flip", "axis", given[1], axes, WE_MAX_RANK);
    we_array view = x ? x->view : (we_array){0};
    for (int i = 0; i < named; i++) {
        int64_t axis = all ? i : axes[i] < 0 ? axes[i] + view.rank : axes[i];
        if (axis < 0 || axis >= view.rank) {
            PyErr_Format(PyExc_IndexError, "flip(): there is no axis %lld in an array of %d dims",
                         (long long)axes[i], (int)view.rank);
            named = -1;
            break;
        }
        if (view.dims[axis] > 0) {
            view.data += (view.dims[axis] - 1) * view.strides[axis];
        }
        view.strides[axis] = -view.strides[axis];
    }
    if (named >= 0) {
        result = we_native_array_view(state, x, &view);
    }
    Py_XDECREF(x);
    return (PyObject *)result;
}

/* ---- astype, copy ---- */

static PyObject *astype(native_state *state, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "dtype", "copy", "device", NULL};
    PyObject *given[4] = {NULL};
    if (we_native_arguments("astype", names, 1, 2, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    int dtype = we_native_dtype_parse(state, given[1], WE_ARRAY_F64);
    Array *x = dtype < 0 ? NULL : we_native_array_from(state, given[0], -1), *result = NULL;
    if (x == NULL) {
        return NULL;
    }
    char from = we_array_dtype_kind(x->view.dtype), to = we_array_dtype_kind((we_array_dtype)dtype);
    if (from == 'c' && to != 'c' && to != 'b') {
        PyErr_Format(PyExc_TypeError,
                     "astype(): complex numbers do not become %s: take real() or abs() of them",
                     we_array_dtype_name((we_array_dtype)dtype));
    } else if (given[2] == Py_False && dtype == (int)x->view.dtype) {
        result = (Array *)Py_NewRef((PyObject *)x);
    } else {
        result = we_native_array_copy(state, x, dtype);
    }
    Py_DECREF(x);
    return (PyObject *)result;
}

static PyObject *native_astype(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    return astype(PyModule_GetState(module), args, count, kwnames);
}

static PyObject *method_astype(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    return we_native_as_method(native_astype, self, args, count, kwnames);
}

static PyObject *method_copy(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return (PyObject *)we_native_array_copy(we_native_state(self), (Array *)self, -1);
}

static PyObject *method_flatten(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *all = PyLong_FromLong(-1);
    PyObject *result = all ? reshape(we_native_state(self), self, all, Py_True) : NULL;
    Py_XDECREF(all);
    return result;
}

static PyObject *method_ravel(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *all = PyLong_FromLong(-1);
    PyObject *result = all ? reshape(we_native_state(self), self, all, NULL) : NULL;
    Py_XDECREF(all);
    return result;
}

/* ---- concat ---- */

/* Copy `parts` one after the other along an axis of `out`. */
static int place_parts(PyObject *parts, Array *out, int axis) {
    we_array room = out->view;
    we_error error;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parts); i++) {
        const we_array *part = we_native_view(PyTuple_GET_ITEM(parts, i));
        we_status status;
        room.dims[axis] = part->dims[axis];
        WE_NATIVE_RUN(we_native_count(part), status, we_array_copy(part, &room, &error));
        if (status != WE_OK) {
            we_native_array_raise(&error);
            return -1;
        }
        room.data += room.dims[axis] * room.strides[axis];
    }
    return 0;
}

static bool same_but(const we_array *a, const we_array *b, int axis) {
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) {
        same = i == axis || a->dims[i] == b->dims[i];
    }
    return same;
}

/* A tuple of arrays of the things in a sequence. */
static PyObject *arrays_of(native_state *state, PyObject *sequence) {
    PyObject *items = PySequence_Tuple(sequence);
    PyObject *arrays = items ? PyTuple_New(PyTuple_GET_SIZE(items)) : NULL;
    for (Py_ssize_t i = 0; arrays != NULL && i < PyTuple_GET_SIZE(items); i++) {
        Array *array = we_native_array_from(state, PyTuple_GET_ITEM(items, i), -1);
        if (array == NULL) {
            Py_CLEAR(arrays);
        } else {
            PyTuple_SET_ITEM(arrays, i, (PyObject *)array);
        }
    }
    Py_XDECREF(items);
    return arrays;
}

/* concat(arrays, /, *, axis=0) */
static PyObject *native_concat(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"arrays", "axis", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[2] = {NULL};
    if (we_native_arguments("concat", names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    PyObject *parts = arrays_of(state, given[0]);
    Array *out = NULL;
    if (parts == NULL) {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(parts);
    bool flat = given[1] == Py_None;
    for (Py_ssize_t i = 0; flat && i < n; i++) {
        PyObject *row = method_ravel(PyTuple_GET_ITEM(parts, i), NULL);
        if (row == NULL) {
            goto done;
        }
        Py_DECREF(PyTuple_GET_ITEM(parts, i));
        PyTuple_SET_ITEM(parts, i, row);
    }
    if (n == 0 || we_native_view(PyTuple_GET_ITEM(parts, 0))->rank == 0) {
        PyErr_SetString(PyExc_ValueError,
                        n == 0 ? "concat() needs one array or more"
                               : "concat(): an array without dims cannot be joined: stack() it");
        goto done;
    }
    we_array shape = *we_native_view(PyTuple_GET_ITEM(parts, 0));
    int axis = flat || given[1] == NULL ? 0 : we_native_axis("concat", given[1], shape.rank);
    if (axis < 0) {
        goto done;
    }
    for (Py_ssize_t i = 1; i < n; i++) {
        const we_array *part = we_native_view(PyTuple_GET_ITEM(parts, i));
        if (!same_but(&shape, part, axis)) {
            PyErr_Format(PyExc_ValueError,
                         "concat(): array %zd differs from the first in another axis than %d", i, axis);
            goto done;
        }
        shape.dims[axis] += part->dims[axis];
        shape.dtype = we_native_dtype_promote(shape.dtype, part->dtype);
    }
    out = we_native_array_new_like(state, shape.dtype, &shape);
    if (out != NULL && place_parts(parts, out, axis) < 0) {
        Py_CLEAR(out);
    }
done:
    Py_DECREF(parts);
    return (PyObject *)out;
}

/* ---- Dtypes ---- */

/* promote_types(a, b, /) */
static PyObject *native_promote_types(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    native_state *state = PyModule_GetState(module);
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "promote_types() takes two dtypes, not %zd", count);
    }
    int a = we_native_dtype_parse(state, args[0], WE_ARRAY_F64);
    int b = a < 0 ? -1 : we_native_dtype_parse(state, args[1], WE_ARRAY_F64);
    return b < 0
               ? NULL
               : we_native_dtype_object(state, we_native_dtype_promote((we_array_dtype)a, (we_array_dtype)b));
}

/* dtype_beside(dtype, number, /) */
static PyObject *native_dtype_beside(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    native_state *state = PyModule_GetState(module);
    if (count != 2 || !we_native_is_number(args[1])) {
        return PyErr_Format(PyExc_TypeError, "dtype_beside() takes a dtype and a number");
    }
    int dtype = we_native_dtype_parse(state, args[0], WE_ARRAY_F64);
    return dtype < 0 ? NULL
                     : we_native_dtype_object(state, we_native_dtype_beside((we_array_dtype)dtype, args[1]));
}

#define ROW(name, doc) {#name, (PyCFunction)(void (*)(void))native_##name, METH_FASTCALL | METH_KEYWORDS, doc}
PyMethodDef we_native_shape_functions[] = {
    ROW(empty,
        "empty($module, shape, dtype=None, *, device=None)\n--\n\nMake an array whose elements are whatever "
        "is there."),
    ROW(zeros, "zeros($module, shape, dtype=None, *, device=None)\n--\n\nMake an array of zeros."),
    ROW(ones, "ones($module, shape, dtype=None, *, device=None)\n--\n\nMake an array of ones."),
    ROW(full,
        "full($module, shape, fill_value, dtype=None, *, device=None)\n--\n\nMake an array of one number."),
    ROW(arange,
        "arange($module, start, stop=None, step=1, dtype=None, *, device=None)\n--\n\nNumbers from start up "
        "to, not including, stop."),
    ROW(reshape,
        "reshape($module, x, /, shape, *, copy=None)\n--\n\nThe elements in another shape; one dim may be "
        "-1."),
    ROW(permute_dims, "permute_dims($module, x, /, axes)\n--\n\nA view with the axes in another order."),
    ROW(broadcast_to, "broadcast_to($module, x, /, shape)\n--\n\nA read-only view stretched to a shape."),
    ROW(flip, "flip($module, x, /, axis=None)\n--\n\nA view with the elements in the opposite order."),
    ROW(astype,
        "astype($module, x, dtype, /, *, copy=True, device=None)\n--\n\nThe elements in another dtype."),
    ROW(concat, "concat($module, arrays, /, axis=0)\n--\n\nJoin arrays along an axis."),
    {"promote_types", (PyCFunction)(void (*)(void))native_promote_types, METH_FASTCALL,
     "promote_types($module, a, b, /)\n--\n\nThe dtype that holds both."},
    {"dtype_beside", (PyCFunction)(void (*)(void))native_dtype_beside, METH_FASTCALL,
     "dtype_beside($module, dtype, number, /)\n--\n\nThe dtype of an array beside a Python number."},
    {0},
};
PyMethodDef we_native_shape_methods[] = {
    {"reshape", (PyCFunction)(void (*)(void))method_reshape, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"transpose", method_transpose, METH_VARARGS, NULL},
    {"astype", (PyCFunction)(void (*)(void))method_astype, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"copy", method_copy, METH_NOARGS, NULL},
    {"flatten", method_flatten, METH_NOARGS, NULL},
    {"ravel", method_ravel, METH_NOARGS, NULL},
    {0},
};
