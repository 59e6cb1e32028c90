/* Arrays to the numerical routines of numeric.h: what the modules linalg, fft, sorting, searching and sets of
 * walle_task.matrix are written on. Functions here check what would harm; what an argument means, and how a
 * mistake is told, is theirs. */
#include "array.h" /* first, as Python.h must be */

#include "walle/numeric.h"

/* ---- Linear algebra ---- */

static int field_of(we_array_dtype dtype) {
    switch (dtype) {
    case WE_ARRAY_F32:
        return WE_FIELD_F32;
    case WE_ARRAY_F64:
        return WE_FIELD_F64;
    case WE_ARRAY_C64:
        return WE_FIELD_C64;
    case WE_ARRAY_C128:
        return WE_FIELD_C128;
    default:
        return -1;
    }
}

static we_array_dtype real_of(we_array_dtype dtype) {
    return dtype == WE_ARRAY_C64 ? WE_ARRAY_F32 : dtype == WE_ARRAY_C128 ? WE_ARRAY_F64 : dtype;
}

/* A result: the stack's dims, then up to two more. */
static Array *stacked(native_state *state, we_array_dtype dtype, const we_array *x, int more, int64_t rows,
                      int64_t columns) {
    int64_t dims[WE_MAX_RANK];
    int rank = x->rank - 2;
    memcpy(dims, x->dims, (size_t)rank * sizeof *dims);
    if (more > 0) {
        dims[rank] = rows;
    }
    if (more > 1) {
        dims[rank + 1] = columns;
    }
    return we_native_array_new(state, dtype, rank + more, dims);
}

/* Make the results of an operation; those that are not wanted stay NULL. The count, or -1. */
static int results_of(native_state *state, we_linalg_op op, const we_array *x, int64_t k, bool option,
                      bool vectors, Array **out) {
    int64_t m = x->dims[x->rank - 2], n = x->dims[x->rank - 1], least = m < n ? m : n;
    we_array_dtype field = x->dtype, real = real_of(x->dtype);
    int64_t rows = option ? m : least, columns = option ? n : least;
    int count = 1;
    switch (op) {
    case WE_LINALG_SOLVE:
        out[0] = stacked(state, field, x, 2, n, k);
        break;
    case WE_LINALG_INVERSE:
    case WE_LINALG_CHOLESKY:
        out[0] = stacked(state, field, x, 2, n, n);
        break;
    case WE_LINALG_DET:
        count = 3;
        out[0] = stacked(state, field, x, 0, 0, 0);
        out[1] = stacked(state, field, x, 0, 0, 0);
        out[2] = stacked(state, real, x, 0, 0, 0);
        break;
    case WE_LINALG_QR:
        count = 2;
        out[0] = vectors ? stacked(state, field, x, 2, m, rows) : NULL;
        out[1] = stacked(state, field, x, 2, rows, n);
        break;
    case WE_LINALG_EIGH:
        count = 2;
        out[0] = stacked(state, real, x, 1, n, 0);
        out[1] = vectors ? stacked(state, field, x, 2, n, n) : NULL;
        break;
    default:
        count = 3;
        out[0] = vectors ? stacked(state, field, x, 2, m, rows) : NULL;
        out[1] = stacked(state, real, x, 1, least, 0);
        out[2] = vectors ? stacked(state, field, x, 2, columns, n) : NULL;
    }
    return PyErr_Occurred() ? -1 : count;
}

static PyObject *tuple_of(Array **out, int count) {
    PyObject *result = PyTuple_New(count);
    for (int i = 0; result != NULL && i < count; i++) {
        PyTuple_SET_ITEM(result, i, out[i] ? Py_NewRef((PyObject *)out[i]) : Py_NewRef(Py_None));
    }
    return result;
}

/* The operations by their names. */
static int op_of(const char *name) {
    static const char *const names[] = {"solve", "inv", "det", "cholesky", "qr", "eigh", "svd"};
    for (int op = 0; op < WE_LINALG_COUNT; op++) {
        if (strcmp(names[op], name) == 0) {
            return op;
        }
    }
    PyErr_Format(PyExc_ValueError, "linalg() has no operation '%.40s'", name);
    return -1;
}

static bool squares(const char *name, const we_array *x) {
    int64_t m = x->dims[x->rank - 2], n = x->dims[x->rank - 1];
    if (m != n) {
        PyErr_Format(PyExc_ValueError, "%s() takes square matrices, not %lld x %lld", name, (long long)m,
                     (long long)n);
    }
    return m == n;
}

/* b: what solve() takes beside x, of the same stack and dtype. */
static bool suits(const we_array *x, const we_array *b) {
    bool fits = b->rank == x->rank && b->dtype == x->dtype && b->dims[b->rank - 2] == x->dims[x->rank - 1];
    for (int axis = 0; fits && axis < x->rank - 2; axis++) {
        fits = b->dims[axis] == x->dims[axis];
    }
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "solve(): the right sides do not suit the matrices");
    }
    return fits;
}

/* linalg(operation, x, b, option, vectors) to a tuple of its results; see we_linalg. */
static PyObject *native_linalg(PyObject *module, PyObject *args) {
    native_state *state = PyModule_GetState(module);
    const char *name;
    PyObject *given, *given_b, *result = NULL;
    int option, vectors;
    if (!PyArg_ParseTuple(args, "sOOpp:linalg", &name, &given, &given_b, &option, &vectors)) {
        return NULL;
    }
    int op = op_of(name);
    Array *x = op < 0 ? NULL : we_native_array_dense(state, given, -1, false), *b = NULL, *out[3] = {NULL};
    if (x == NULL) {
        return NULL;
    }
    const we_array *view = &x->view;
    if (view->rank < 2) {
        PyErr_Format(PyExc_ValueError, "%s() takes matrices: arrays of two dims or more, not of %d", name,
                     (int)view->rank);
        goto done;
    }
    if (field_of(view->dtype) < 0) {
        PyErr_Format(PyExc_TypeError, "%s() takes floating-point numbers, not %s: astype() converts", name,
                     we_array_dtype_name(view->dtype));
        goto done;
    }
    if (op != WE_LINALG_QR && op != WE_LINALG_SVD && !squares(name, view)) {
        goto done;
    }
    if (op == WE_LINALG_SOLVE) {
        b = we_native_array_dense(state, given_b, -1, false);
        if (b == NULL || !suits(view, &b->view)) {
            goto done;
        }
    }
    int64_t m = view->dims[view->rank - 2], n = view->dims[view->rank - 1], batch = 1;
    int64_t k = b ? b->view.dims[b->view.rank - 1] : 0;
    for (int axis = 0; axis < view->rank - 2; axis++) {
        batch *= view->dims[axis];
    }
    int count = results_of(state, (we_linalg_op)op, view, k, option, vectors, out);
    if (count < 0) {
        goto done;
    }
    const void *in[2] = {view->data, b ? b->view.data : NULL};
    void *to[3];
    for (int i = 0; i < 3; i++) {
        to[i] = out[i] ? out[i]->view.data : NULL;
    }
    we_error error;
    we_status status;
    int64_t work = batch * m * n * ((m < n ? m : n) + k);
    WE_NATIVE_RUN(
        work, status,
        we_linalg((we_linalg_op)op, (we_field)field_of(view->dtype), batch, m, n, k, option, in, to, &error));
    result = status == WE_OK ? tuple_of(out, count) : we_native_array_raise(&error);
done:
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(out[i]);
    }
    Py_XDECREF(b);
    Py_DECREF(x);
    return result;
}

/* ---- Along one axis ---- */

typedef struct {
    int64_t outer, n, inner;
} line_shape;

static line_shape lines_along(const we_array *x, int axis) {
    line_shape s = {1, x->dims[axis], 1};
    for (int i = 0; i < axis; i++) {
        s.outer *= x->dims[i];
    }
    for (int i = axis + 1; i < x->rank; i++) {
        s.inner *= x->dims[i];
    }
    return s;
}

/* fft(x, kind, n, axis, sign, factor): x is complex, or real for kind 1; see we_fft. */
static PyObject *native_fft(PyObject *module, PyObject *args) {
    native_state *state = PyModule_GetState(module);
    PyObject *given, *given_axis, *result = NULL;
    int kind, sign;
    long long n;
    double factor;
    if (!PyArg_ParseTuple(args, "OiLOid:fft", &given, &kind, &n, &given_axis, &sign, &factor)) {
        return NULL;
    }
    Array *x = we_native_array_dense(state, given, -1, false);
    if (x == NULL) {
        return NULL;
    }
    int field = field_of(x->view.dtype);
    bool is_complex = field == WE_FIELD_C64 || field == WE_FIELD_C128;
    int axis = we_native_axis("fft", given_axis, x->view.rank);
    if (axis < 0) {
        goto done;
    }
    if (field < 0 || kind < WE_FFT_COMPLEX || kind > WE_FFT_REAL_INVERSE ||
        is_complex == (kind == WE_FFT_REAL)) {
        PyErr_Format(PyExc_TypeError, "fft() of kind %d has no meaning for %s", kind,
                     we_array_dtype_name(x->view.dtype));
        goto done;
    }
    line_shape s = lines_along(&x->view, axis);
    we_array shape = x->view;
    shape.dims[axis] = n < 0 ? 0 : kind == WE_FFT_REAL ? n / 2 + 1 : n;
    bool single = field == WE_FIELD_F32 || field == WE_FIELD_C64;
    we_array_dtype real = single ? WE_ARRAY_F32 : WE_ARRAY_F64,
                   complex_dtype = single ? WE_ARRAY_C64 : WE_ARRAY_C128;
    Array *out = we_native_array_new_like(state, kind == WE_FFT_REAL_INVERSE ? real : complex_dtype, &shape);
    if (out == NULL) {
        goto done;
    }
    we_fft_call call = {(we_fft_kind)kind,
                        single ? WE_FIELD_F32 : WE_FIELD_F64,
                        sign < 0 ? -1 : 1,
                        s.outer,
                        n,
                        s.inner,
                        s.n,
                        factor,
                        x->view.data,
                        out->view.data};
    we_error error;
    we_status status;
    WE_NATIVE_RUN(we_native_count(&shape), status, we_fft(&call, &error));
    result = status == WE_OK ? (PyObject *)out : we_native_array_raise(&error);
    if (status != WE_OK) {
        Py_DECREF(out);
    }
done:
    Py_DECREF(x);
    return result;
}

/* ---- Sorting ---- */

/* None or absent: `fallback`. -1 with an exception. */
static int truth_of(PyObject *value, int fallback) {
    return value == NULL || value == Py_None ? fallback : PyObject_IsTrue(value);
}

static PyObject *sort_call(const char *function, bool order, native_state *state, PyObject *const *args,
                           Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "axis", "descending", "stable", NULL};
    PyObject *given[4] = {NULL};
    Array *out = NULL;
    if (we_native_arguments(function, names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    int descending = truth_of(given[2], 0), stable = truth_of(given[3], 1); /* every sort here is */
    Array *x = descending < 0 || stable < 0 ? NULL : we_native_array_dense(state, given[0], -1, false);
    if (x == NULL) {
        return NULL;
    }
    if (x->view.rank == 0) {
        PyErr_Format(PyExc_ValueError, "%s() takes an array of one dim or more", function);
        goto done;
    }
    if (we_array_dtype_kind(x->view.dtype) == 'c') {
        PyErr_Format(PyExc_TypeError, "%s() has no meaning for %s: complex numbers have no order", function,
                     we_array_dtype_name(x->view.dtype));
        goto done;
    }
    int axis = given[1] ? we_native_axis(function, given[1], x->view.rank) : x->view.rank - 1;
    if (axis < 0) {
        goto done;
    }
    out = we_native_array_new_like(state, order ? WE_ARRAY_I64 : x->view.dtype, &x->view);
    if (out == NULL) {
        goto done;
    }
    line_shape s = lines_along(&x->view, axis);
    we_error error;
    we_status status;
    if (order) {
        WE_NATIVE_RUN(s.outer * s.n * s.inner, status,
                      we_argsort(x->view.dtype, s.outer, s.n, s.inner, descending, x->view.data,
                                 (int64_t *)out->view.data, &error));
    } else {
        WE_NATIVE_RUN(
            s.outer * s.n * s.inner, status,
            we_sort(x->view.dtype, s.outer, s.n, s.inner, descending, x->view.data, out->view.data, &error));
    }
    if (status != WE_OK) {
        Py_CLEAR(out);
        we_native_array_raise(&error);
    }
done:
    Py_DECREF(x);
    return (PyObject *)out;
}

static PyObject *native_sort(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    return sort_call("sort", false, PyModule_GetState(module), args, count, kwnames);
}

static PyObject *native_argsort(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                PyObject *kwnames) {
    return sort_call("argsort", true, PyModule_GetState(module), args, count, kwnames);
}

/* ---- Searching ---- */

static int side_of(PyObject *value) {
    if (value == NULL || (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "left") == 0)) {
        return 0;
    }
    if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "right") == 0) {
        return 1;
    }
    PyErr_Format(PyExc_ValueError, "searchsorted() takes side 'left' or 'right', not %R", value);
    return -1;
}

/* searchsorted(x1, x2, /, *, side="left", sorter=None) */
static PyObject *native_searchsorted(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                     PyObject *kwnames) {
    static const char *const names[] = {"x1", "x2", "side", "sorter", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[4] = {NULL};
    Array *x = NULL, *values = NULL, *sorter = NULL, *out = NULL;
    if (we_native_arguments("searchsorted", names, 2, 2, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    int right = side_of(given[2]);
    if (right < 0 || (x = we_native_array_from(state, given[0], -1)) == NULL ||
        (values = we_native_array_from(state, given[1], -1)) == NULL) {
        goto done;
    }
    we_array_dtype dtype = we_native_is_number(given[1])
                               ? we_native_dtype_beside(x->view.dtype, given[1])
                               : we_native_dtype_promote(x->view.dtype, values->view.dtype);
    if (x->view.rank != 1 || we_array_dtype_kind(dtype) == 'c') {
        PyErr_SetString(PyExc_ValueError, "searchsorted() looks in one dim of real numbers");
        goto done;
    }
    Py_SETREF(x, we_native_array_dense(state, (PyObject *)x, (int)dtype, false));
    Py_SETREF(values, we_native_array_dense(state, (PyObject *)values, (int)dtype, false));
    if (x == NULL || values == NULL) {
        goto done;
    }
    if (given[3] != NULL && given[3] != Py_None) {
        sorter = we_native_array_dense(state, given[3], WE_ARRAY_I64, false);
        if (sorter == NULL) {
            goto done;
        }
        if (sorter->view.rank != 1 || sorter->view.dims[0] != x->view.dims[0]) {
            PyErr_SetString(PyExc_ValueError, "searchsorted(): sorter must have a place for each element");
            goto done;
        }
    }
    out = we_native_array_new_like(state, WE_ARRAY_I64, &values->view);
    if (out == NULL) {
        goto done;
    }
    we_error error;
    we_status status;
    int64_t wanted = we_native_count(&values->view);
    WE_NATIVE_RUN(wanted, status,
                  we_searchsorted(dtype, x->view.dims[0], x->view.data,
                                  sorter ? (const int64_t *)sorter->view.data : NULL, wanted,
                                  values->view.data, right, (int64_t *)out->view.data, &error));
    if (status != WE_OK) {
        Py_CLEAR(out);
        we_native_array_raise(&error);
    }
done:
    Py_XDECREF(x);
    Py_XDECREF(values);
    Py_XDECREF(sorter);
    return (PyObject *)out;
}

static PyObject *native_nonzero(PyObject *module, PyObject *given) {
    native_state *state = PyModule_GetState(module);
    Array *x = we_native_array_from(state, given, -1), *out[WE_MAX_RANK] = {NULL};
    PyObject *result = NULL;
    if (x == NULL) {
        return NULL;
    }
    int rank = x->view.rank;
    if (rank == 0) {
        PyErr_SetString(PyExc_ValueError, "nonzero() takes an array of one dim or more");
        Py_DECREF(x);
        return NULL;
    }
    Py_SETREF(x, we_native_array_dense(state, (PyObject *)x, WE_ARRAY_BOOL, false));
    if (x == NULL) {
        return NULL;
    }
    const uint8_t *mask = (const uint8_t *)x->view.data;
    int64_t total = we_native_count(&x->view), found = 0;
    for (int64_t i = 0; i < total; i++) {
        found += mask[i] != 0;
    }
    int64_t place[WE_MAX_RANK] = {0}, *to[WE_MAX_RANK];
    for (int axis = 0; axis < rank; axis++) {
        out[axis] = we_native_array_new(state, WE_ARRAY_I64, 1, &found);
        if (out[axis] == NULL) {
            goto done;
        }
        to[axis] = (int64_t *)out[axis]->view.data;
    }
    for (int64_t i = 0, at = 0; i < total; i++) {
        for (int axis = 0; mask[i] && axis < rank; axis++) {
            to[axis][at] = place[axis];
        }
        at += mask[i] != 0;
        for (int axis = rank - 1; axis >= 0 && ++place[axis] == x->view.dims[axis]; axis--) {
            place[axis] = 0;
        }
    }
    result = tuple_of(out, rank);
done:
    for (int axis = 0; axis < rank; axis++) {
        Py_XDECREF(out[axis]);
    }
    Py_DECREF(x);
    return result;
}

/* ---- Sets ---- */

/* The first `count` elements of a vector. */
static void cut(Array *x, int64_t count) {
    x->view.dims[0] = count;
}

/* unique(x) to (places of the first of each value, which value each element has, how many each has), all
 * vectors. */
static PyObject *native_unique(PyObject *module, PyObject *given) {
    native_state *state = PyModule_GetState(module);
    Array *x = we_native_array_dense(state, given, -1, false), *out[3] = {NULL};
    PyObject *result = NULL;
    if (x == NULL) {
        return NULL;
    }
    int64_t n = we_native_count(&x->view), found;
    for (int i = 0; i < 3; i++) {
        out[i] = we_native_array_new(state, WE_ARRAY_I64, 1, &n);
        if (out[i] == NULL) {
            goto done;
        }
    }
    we_error error;
    we_status status;
    WE_NATIVE_RUN(n, status,
                  we_unique(x->view.dtype, n, x->view.data, (int64_t *)out[0]->view.data,
                            (int64_t *)out[1]->view.data, (int64_t *)out[2]->view.data, &found, &error));
    if (status != WE_OK) {
        we_native_array_raise(&error);
        goto done;
    }
    cut(out[0], found);
    cut(out[2], found);
    result = tuple_of(out, 3);
done:
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(out[i]);
    }
    Py_DECREF(x);
    return result;
}

#define FAST(function) (PyCFunction)(void (*)(void))(function)
PyMethodDef we_native_numeric_functions[] = {
    {"linalg", native_linalg, METH_VARARGS,
     "Return the results of an operation on matrices: linalg(operation, x, b, option, vectors)."},
    {"fft", native_fft, METH_VARARGS, "Return a Fourier transform: fft(x, kind, n, axis, sign, factor)."},
    {"sort", FAST(native_sort), METH_FASTCALL | METH_KEYWORDS,
     "sort($module, x, /, axis=-1, *, descending=False, stable=True)\n--\n\n"
     "The elements in order; NaN counts as the largest."},
    {"argsort", FAST(native_argsort), METH_FASTCALL | METH_KEYWORDS,
     "argsort($module, x, /, axis=-1, *, descending=False, stable=True)\n--\n\n"
     "The places of the elements in order."},
    {"searchsorted", FAST(native_searchsorted), METH_FASTCALL | METH_KEYWORDS,
     "searchsorted($module, x1, x2, /, *, side='left', sorter=None)\n--\n\n"
     "Where values belong in a sorted vector."},
    {"nonzero", native_nonzero, METH_O,
     "nonzero($module, x, /)\n--\n\nThe places of elements that are not 0, a vector for each axis."},
    {"unique", native_unique, METH_O, "Return (first places, inverse, counts) of the different values."},
    {0},
};
