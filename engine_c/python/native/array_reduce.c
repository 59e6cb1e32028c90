/* Reductions and accumulations. */
#include "array.h" /* first, as Python.h must be */

#include <math.h>
#include <string.h>

/* The axes a call names, as bits: all for None. 0 or -1. */
static int axes_of(const char *function, PyObject *value, int rank, uint32_t *axes) {
    int64_t numbers[WE_MAX_RANK];
    *axes = 0;
    if (value == NULL || value == Py_None) {
        *axes = (1u << rank) - 1;
        return 0;
    }
    int count = we_native_ints(function, "axis", value, numbers, WE_MAX_RANK);
    for (int i = 0; i < count; i++) {
        int64_t axis = numbers[i] < 0 ? numbers[i] + rank : numbers[i];
        if (axis < 0 || axis >= rank) {
            PyErr_Format(PyExc_IndexError, "%s(): there is no axis %lld in an array of %d dims", function,
                         (long long)numbers[i], rank);
            return -1;
        }
        if (*axes >> axis & 1) {
            PyErr_Format(PyExc_ValueError, "%s(): axis %lld is named twice", function, (long long)axis);
            return -1;
        }
        *axes |= 1u << axis;
    }
    return count < 0 ? -1 : 0;
}

static int truth_of(PyObject *value) {
    return value == NULL ? 0 : PyObject_IsTrue(value);
}

/* The shape of a result: reduced dims are 1 where they are kept. `squeezed` is without them. */
static void result_shape(const we_array *x, uint32_t axes, bool keep, we_array *shape) {
    *shape = (we_array){0};
    for (int32_t axis = 0; axis < x->rank; axis++) {
        bool reduced = axes >> axis & 1;
        if (!reduced || keep) {
            shape->dims[shape->rank++] = reduced ? 1 : x->dims[axis];
        }
    }
}

static int64_t reduced_count(const we_array *x, uint32_t axes) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < x->rank; axis++) {
        count *= axes >> axis & 1 ? x->dims[axis] : 1;
    }
    return count;
}

/* The reduction of x taken as `dtype`, in `result`'s dtype. */
static Array *reduce(native_state *state, we_array_reduce_fn fn, we_array_dtype dtype, const we_array *x,
                     uint32_t axes, bool keep, double divisor, we_array_dtype result) {
    we_array shape, squeezed;
    we_error error;
    we_status status;
    result_shape(x, axes, keep, &shape);
    Array *out = we_native_array_new_like(state, result, &shape);
    if (out == NULL) {
        return NULL;
    }
    result_shape(x, axes, false, &squeezed);
    squeezed.dtype = result;
    squeezed.data = out->view.data;
    we_native_set_dense(&squeezed);
    WE_NATIVE_RUN(we_native_count(x), status,
                  we_array_reduce(fn, dtype, x, axes, divisor, &squeezed, &error));
    if (status != WE_OK) {
        Py_DECREF(out);
        return (Array *)we_native_array_raise(&error);
    }
    return out;
}

/* ---- sum, prod, max, min, any, all ---- */

static PyObject *reduce_call(native_state *state, const char *function, we_array_reduce_fn fn,
                             PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const wide_names[] = {"x", "axis", "keepdims", "dtype", NULL};
    static const char *const plain_names[] = {"x", "axis", "keepdims", NULL};
    PyObject *given[4] = {NULL};
    bool wide = fn == WE_ARRAY_REDUCE_sum || fn == WE_ARRAY_REDUCE_prod;
    uint32_t axes;
    we_array_types types;
    Array *out = NULL;
    if (we_native_arguments(function, wide ? wide_names : plain_names, 1, 2, 1, args, count, kwnames, given) <
        0) {
        return NULL;
    }
    Array *x = we_native_array_from(state, given[0], -1);
    if (x == NULL) {
        return NULL;
    }
    int dtype = we_native_dtype_parse(state, given[3], (int)x->view.dtype);
    int keep = truth_of(given[2]);
    if (dtype < 0 || keep < 0 || axes_of(function, given[1], x->view.rank, &axes) < 0) {
        goto done;
    }
    if (!we_array_reduce_types(fn, (we_array_dtype)dtype, &types)) {
        PyErr_Format(PyExc_TypeError, "%s() has no meaning for %s", function,
                     we_array_dtype_name((we_array_dtype)dtype));
        goto done;
    }
    if ((fn == WE_ARRAY_REDUCE_max || fn == WE_ARRAY_REDUCE_min) && reduced_count(&x->view, axes) == 0) {
        PyErr_Format(PyExc_ValueError, "%s() of no elements: there is none to choose", function);
        goto done;
    }
    we_array_dtype result = given[3] != NULL && given[3] != Py_None ? (we_array_dtype)dtype : types.result;
    out = reduce(state, fn, (we_array_dtype)dtype, &x->view, axes, keep, 1, result);
done:
    Py_DECREF(x);
    return (PyObject *)out;
}

/* ---- mean, var, std ---- */

/* Integers are averaged as float64. */
static we_array_dtype floating(we_array_dtype dtype) {
    return strchr("fc", we_array_dtype_kind(dtype)) ? dtype : WE_ARRAY_F64;
}

static PyObject *mean_call(native_state *state, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "axis", "dtype", "keepdims", NULL};
    PyObject *given[4] = {NULL};
    uint32_t axes;
    Array *out = NULL;
    if (we_native_arguments("mean", names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    Array *x = we_native_array_from(state, given[0], -1);
    if (x == NULL) {
        return NULL;
    }
    int dtype = we_native_dtype_parse(state, given[2], (int)floating(x->view.dtype));
    int keep = truth_of(given[3]);
    if (dtype >= 0 && keep >= 0 && axes_of("mean", given[1], x->view.rank, &axes) == 0) {
        we_array_dtype computed = floating((we_array_dtype)dtype);
        out = reduce(state, WE_ARRAY_REDUCE_sum, computed, &x->view, axes, keep,
                     (double)reduced_count(&x->view, axes), (we_array_dtype)dtype);
    }
    Py_DECREF(x);
    return (PyObject *)out;
}

/* Of a whole dense array: one pass for the mean, one for the spread. */
static Array *spread_of_all(native_state *state, const we_array *x, double divisor, we_array_dtype result) {
    we_error error;
    double mean = 0, sum = 0;
    we_array number = {.dtype = WE_ARRAY_F64, .data = (char *)&mean};
    int64_t count = we_native_count(x);
    we_status status;
    WE_NATIVE_RUN(count, status,
                  we_array_reduce(WE_ARRAY_REDUCE_sum, WE_ARRAY_F64, x, (1u << x->rank) - 1, (double)count,
                                  &number, &error));
    if (status == WE_OK) {
        WE_NATIVE_RUN(count, status, we_array_spread(x, mean, &sum, &error));
    }
    if (status != WE_OK) {
        return (Array *)we_native_array_raise(&error);
    }
    Array *out = we_native_array_new(state, result, 0, NULL);
    if (out != NULL) {
        mean = sum / divisor;
        we_array_copy(&number, &out->view, NULL);
    }
    return out;
}

static Array *spread_along(native_state *state, const we_array *x, uint32_t axes, bool keep, double divisor,
                           we_array_dtype result) {
    we_error error;
    we_status status;
    Array *out = NULL;
    Array *mean = reduce(state, WE_ARRAY_REDUCE_sum, WE_ARRAY_F64, x, axes, true,
                         (double)reduced_count(x, axes), WE_ARRAY_F64);
    Array *off = mean ? we_native_array_new_like(state, WE_ARRAY_F64, x) : NULL;
    if (off != NULL) {
        WE_NATIVE_RUN(
            we_native_count(x), status,
            we_array_binary(WE_ARRAY_BINARY_subtract, WE_ARRAY_F64, x, &mean->view, &off->view, &error));
        if (status == WE_OK) {
            WE_NATIVE_RUN(we_native_count(x), status,
                          we_array_unary(WE_ARRAY_UNARY_square, &off->view, &off->view, &error));
        }
        out = status == WE_OK
                  ? reduce(state, WE_ARRAY_REDUCE_sum, WE_ARRAY_F64, &off->view, axes, keep, divisor, result)
                  : (Array *)we_native_array_raise(&error);
    }
    Py_XDECREF(mean);
    Py_XDECREF(off);
    return out;
}

static PyObject *spread_call(native_state *state, const char *function, bool root, PyObject *const *args,
                             Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "axis", "correction", "keepdims", "ddof", NULL};
    PyObject *given[5] = {NULL};
    uint32_t axes;
    Array *out = NULL;
    if (we_native_arguments(function, names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    PyObject *correction = given[2] ? given[2] : given[4];
    double less = correction ? PyFloat_AsDouble(correction) : 0;
    int keep = truth_of(given[3]);
    if ((less == -1.0 && PyErr_Occurred()) || keep < 0) {
        return NULL;
    }
    Array *x = we_native_array_from(state, given[0], -1);
    if (x == NULL) {
        return NULL;
    }
    if (we_array_dtype_kind(x->view.dtype) == 'c') {
        PyErr_Format(PyExc_TypeError, "%s() has no meaning for complex numbers", function);
    } else if (axes_of(function, given[1], x->view.rank, &axes) == 0) {
        we_array_dtype result = floating(x->view.dtype);
        double divisor = fmax((double)reduced_count(&x->view, axes) - less, 0);
        bool all = axes == (1u << x->view.rank) - 1 && !keep && x->view.dtype != WE_ARRAY_BOOL &&
                   we_native_is_dense(&x->view);
        out = all ? spread_of_all(state, &x->view, divisor, result)
                  : spread_along(state, &x->view, axes, keep, divisor, result);
        if (out != NULL && root) {
            we_array_unary(WE_ARRAY_UNARY_sqrt, &out->view, &out->view, NULL);
        }
    }
    Py_DECREF(x);
    return (PyObject *)out;
}

/* ---- argmax, argmin, cumulative_sum, cumulative_prod ---- */

/* The same elements with one axis moved to the end. */
static we_array with_axis_last(const we_array *x, int axis) {
    we_array view = *x;
    for (int i = axis; i + 1 < x->rank; i++) {
        view.dims[i] = x->dims[i + 1];
        view.strides[i] = x->strides[i + 1];
    }
    view.dims[x->rank - 1] = x->dims[axis];
    view.strides[x->rank - 1] = x->strides[axis];
    return view;
}

static PyObject *find_call(native_state *state, const char *function, we_array_reduce_fn fn,
                           PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "axis", "keepdims", NULL};
    PyObject *given[3] = {NULL};
    Array *out = NULL;
    we_error error;
    we_status status;
    if (we_native_arguments(function, names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    int keep = truth_of(given[2]);
    bool flat = given[1] == NULL || given[1] == Py_None;
    Array *x =
        flat ? we_native_array_dense(state, given[0], -1, false) : we_native_array_from(state, given[0], -1);
    if (x == NULL || keep < 0) {
        Py_XDECREF(x);
        return NULL;
    }
    int axis = flat ? 0 : we_native_axis(function, given[1], x->view.rank);
    uint32_t axes = flat ? (1u << x->view.rank) - 1 : 1u << axis;
    we_array view = x->view, shape;
    if (axis < 0) {
        goto done;
    }
    if (we_array_dtype_kind(view.dtype) == 'c' || reduced_count(&x->view, axes) == 0) {
        PyErr_Format(we_array_dtype_kind(view.dtype) == 'c' ? PyExc_TypeError : PyExc_ValueError,
                     "%s() of %s: there is none to choose", function,
                     we_array_dtype_kind(view.dtype) == 'c' ? "complex numbers" : "no elements");
        goto done;
    }
    if (flat) {
        view.rank = 1;
        view.dims[0] = we_native_count(&x->view);
        view.strides[0] = we_array_dtype_size(view.dtype);
    } else {
        view = with_axis_last(&view, axis);
    }
    result_shape(&x->view, axes, keep, &shape);
    out = we_native_array_new_like(state, WE_ARRAY_I64, &shape);
    if (out != NULL) {
        we_array squeezed = out->view;
        result_shape(&x->view, axes, false, &shape);
        memcpy(squeezed.dims, shape.dims, sizeof shape.dims);
        squeezed.rank = shape.rank;
        we_native_set_dense(&squeezed);
        WE_NATIVE_RUN(we_native_count(&view), status, we_array_find(fn, &view, &squeezed, &error));
        if (status != WE_OK) {
            Py_CLEAR(out);
            we_native_array_raise(&error);
        }
    }
done:
    Py_DECREF(x);
    return (PyObject *)out;
}

static PyObject *accumulate_call(native_state *state, const char *function, we_array_reduce_fn fn,
                                 PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "axis", "dtype", "include_initial", NULL};
    PyObject *given[4] = {NULL};
    Array *out = NULL;
    we_error error;
    we_status status = WE_OK;
    we_array_types types;
    if (we_native_arguments(function, names, 1, 2, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    int initial = truth_of(given[3]);
    Array *x = we_native_array_from(state, given[0], -1);
    if (x == NULL || initial < 0) {
        Py_XDECREF(x);
        return NULL;
    }
    we_array view = x->view;
    bool unnamed = given[1] == NULL || given[1] == Py_None;
    if (view.rank == 0 || (unnamed && view.rank != 1)) {
        PyErr_Format(PyExc_ValueError, "%s() needs an axis for an array of %d dims", function,
                     (int)view.rank);
        goto done;
    }
    int axis = unnamed ? 0 : we_native_axis(function, given[1], view.rank);
    int dtype = axis < 0 ? -1 : we_native_dtype_parse(state, given[2], (int)view.dtype);
    if (dtype < 0) {
        goto done;
    }
    we_array_reduce_types(fn, (we_array_dtype)dtype, &types);
    we_array_dtype result = given[2] && given[2] != Py_None ? (we_array_dtype)dtype : types.result;
    we_array shape = view;
    shape.dims[axis] += initial;
    out = we_native_array_new_like(state, result, &shape);
    if (out == NULL) {
        goto done;
    }
    we_array steps = with_axis_last(&out->view, axis), from = with_axis_last(&view, axis);
    if (initial) {
        double start = fn == WE_ARRAY_REDUCE_prod;
        we_array number = {.dtype = WE_ARRAY_F64, .data = (char *)&start}, first = steps;
        first.dims[first.rank - 1] = 1;
        status = we_array_copy(&number, &first, &error);
        steps.data += steps.strides[steps.rank - 1];
        steps.dims[steps.rank - 1]--;
    }
    if (status == WE_OK) {
        WE_NATIVE_RUN(we_native_count(&view), status, we_array_accumulate(fn, &from, &steps, &error));
    }
    if (status != WE_OK) {
        Py_CLEAR(out);
        we_native_array_raise(&error);
    }
done:
    Py_DECREF(x);
    return (PyObject *)out;
}

/* ---- The module's functions and the type's methods: a method is the function with the array before its
 * arguments. */

PyObject *we_native_as_method(we_native_function function, PyObject *self, PyObject *const *args,
                              Py_ssize_t count, PyObject *kwnames) {
    PyObject *all[16];
    Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (count + named >= (Py_ssize_t)(sizeof all / sizeof all[0])) {
        PyErr_SetString(PyExc_TypeError, "too many arguments");
        return NULL;
    }
    all[0] = self;
    memcpy(all + 1, args, (size_t)(count + named) * sizeof *args);
    return function(PyType_GetModule(Py_TYPE(self)), all, count + 1, kwnames);
}

#define FUNCTION(name, method, ...)                                                                          \
    static PyObject *native_##name(PyObject *module, PyObject *const *args, Py_ssize_t count,                \
                                   PyObject *kwnames) {                                                      \
        native_state *state = PyModule_GetState(module);                                                     \
        return __VA_ARGS__;                                                                                  \
    }                                                                                                        \
    static PyObject *method_##name(PyObject *self, PyObject *const *args, Py_ssize_t count,                  \
                                   PyObject *kwnames) {                                                      \
        return we_native_as_method(native_##name, self, args, count, kwnames);                               \
    }
#define FUNCTIONS                                                                                            \
    FUNCTION(sum, "sum", reduce_call(state, "sum", WE_ARRAY_REDUCE_sum, args, count, kwnames))               \
    FUNCTION(prod, "prod", reduce_call(state, "prod", WE_ARRAY_REDUCE_prod, args, count, kwnames))           \
    FUNCTION(max, "max", reduce_call(state, "max", WE_ARRAY_REDUCE_max, args, count, kwnames))               \
    FUNCTION(min, "min", reduce_call(state, "min", WE_ARRAY_REDUCE_min, args, count, kwnames))               \
    FUNCTION(any, "any", reduce_call(state, "any", WE_ARRAY_REDUCE_any, args, count, kwnames))               \
    FUNCTION(all, "all", reduce_call(state, "all", WE_ARRAY_REDUCE_all, args, count, kwnames))               \
    FUNCTION(mean, "mean", mean_call(state, args, count, kwnames))                                           \
    FUNCTION(var, "var", spread_call(state, "var", false, args, count, kwnames))                             \
    FUNCTION(std, "std", spread_call(state, "std", true, args, count, kwnames))                              \
    FUNCTION(argmax, "argmax", find_call(state, "argmax", WE_ARRAY_REDUCE_max, args, count, kwnames))        \
    FUNCTION(argmin, "argmin", find_call(state, "argmin", WE_ARRAY_REDUCE_min, args, count, kwnames))        \
    FUNCTION(cumulative_sum, "cumsum",                                                                       \
             accumulate_call(state, "cumulative_sum", WE_ARRAY_REDUCE_sum, args, count, kwnames))            \
    FUNCTION(cumulative_prod, "cumprod",                                                                     \
             accumulate_call(state, "cumulative_prod", WE_ARRAY_REDUCE_prod, args, count, kwnames))
FUNCTIONS
#undef FUNCTION

#define SIGNATURE_sum                                                                                        \
    "($module, x, /, axis=None, *, dtype=None, keepdims=False)\n--\n\nThe sum; of small integers in 64 "     \
    "bits."
#define SIGNATURE_prod                                                                                       \
    "($module, x, /, axis=None, *, dtype=None, keepdims=False)\n--\n\nThe product; of small integers in 64 " \
    "bits."
#define SIGNATURE_mean                                                                                       \
    "($module, x, /, axis=None, *, dtype=None, keepdims=False)\n--\n\nThe mean; of integers in float64."
#define SIGNATURE_max "($module, x, /, axis=None, *, keepdims=False)\n--\n\nThe largest element, or NaN."
#define SIGNATURE_min "($module, x, /, axis=None, *, keepdims=False)\n--\n\nThe smallest element, or NaN."
#define SIGNATURE_any "($module, x, /, axis=None, *, keepdims=False)\n--\n\nWhether any element is not 0."
#define SIGNATURE_all "($module, x, /, axis=None, *, keepdims=False)\n--\n\nWhether no element is 0."
#define SIGNATURE_argmax                                                                                     \
    "($module, x, /, axis=None, *, keepdims=False)\n--\n\nWhere the first largest element is."
#define SIGNATURE_argmin                                                                                     \
    "($module, x, /, axis=None, *, keepdims=False)\n--\n\nWhere the first smallest element is."
#define SIGNATURE_var                                                                                        \
    "($module, x, /, axis=None, *, correction=0.0, keepdims=False)\n--\n\nThe mean square distance from "    \
    "the mean, of n - correction."
#define SIGNATURE_std                                                                                        \
    "($module, x, /, axis=None, *, correction=0.0, keepdims=False)\n--\n\nThe square root of var()."
#define SIGNATURE_cumulative_sum                                                                             \
    "($module, x, /, axis=None, *, dtype=None, include_initial=False)\n--\n\nRunning sums."
#define SIGNATURE_cumulative_prod                                                                            \
    "($module, x, /, axis=None, *, dtype=None, include_initial=False)\n--\n\nRunning products."
#define FUNCTION(name, method, ...)                                                                          \
    {#name, (PyCFunction)(void (*)(void))native_##name, METH_FASTCALL | METH_KEYWORDS,                       \
     #name SIGNATURE_##name},
PyMethodDef we_native_reduce_functions[] = {FUNCTIONS{0}};
#undef FUNCTION
#define FUNCTION(name, method, ...)                                                                          \
    {method, (PyCFunction)(void (*)(void))method_##name, METH_FASTCALL | METH_KEYWORDS, NULL},
PyMethodDef we_native_reduce_methods[] = {FUNCTIONS{0}};
#undef FUNCTION
