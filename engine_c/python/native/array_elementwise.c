/* Element-wise functions and the operators. */
#include "array.h" /* first, as Python.h must be */

#include <string.h>

/* ---- Operands ---- */

/* An input of a function: an array, or a Python number, which takes the dtype of what it stands beside. */
typedef struct {
    Array *array;     /* owned; NULL for a number */
    PyObject *number; /* borrowed; NULL for an array */
    we_array view;
    char element[16]; /* the number, once its dtype is known */
} operand;

static int operand_open(native_state *state, PyObject *value, operand *o) {
    *o = (operand){0};
    if (we_native_is_number(value)) {
        o->number = value;
        return 0;
    }
    o->array = we_native_array_from(state, value, -1);
    if (o->array == NULL) {
        return -1;
    }
    o->view = o->array->view;
    return 0;
}

static void operand_close(operand *o) {
    Py_XDECREF(o->array);
}

static int operand_store(operand *o, we_array_dtype dtype) {
    if (o->number == NULL) {
        return 0;
    }
    o->view = (we_array){.dtype = dtype, .data = o->element};
    return we_native_number_store(o->number, dtype, o->element);
}

/* The dtype that operands have together: arrays decide, numbers follow. */
static we_array_dtype common_dtype(const operand *operands, int count) {
    int dtype = -1;
    for (int i = 0; i < count; i++) {
        if (operands[i].array != NULL) {
            we_array_dtype own = operands[i].view.dtype;
            dtype = dtype < 0 ? (int)own : (int)we_native_dtype_promote((we_array_dtype)dtype, own);
        }
    }
    for (int i = 0; i < count; i++) {
        if (operands[i].number != NULL) {
            dtype = dtype < 0 ? (int)we_native_number_dtype(operands[i].number)
                              : (int)we_native_dtype_beside((we_array_dtype)dtype, operands[i].number);
        }
    }
    return (we_array_dtype)dtype;
}

static PyObject *shape_text(const we_array *x) {
    PyObject *tuple = PyTuple_New(x->rank);
    for (int axis = 0; tuple != NULL && axis < x->rank; axis++) {
        PyTuple_SET_ITEM(tuple, axis, PyLong_FromLongLong(x->dims[axis]));
    }
    return tuple;
}

int we_native_broadcast(const we_array *x, we_array *shape) {
    int rank = x->rank > shape->rank ? x->rank : shape->rank;
    we_array together = {.rank = rank};
    for (int i = 1; i <= rank; i++) {
        int64_t a = i <= x->rank ? x->dims[x->rank - i] : 1;
        int64_t b = i <= shape->rank ? shape->dims[shape->rank - i] : 1;
        if (a != b && a != 1 && b != 1) {
            PyObject *one = shape_text(shape), *other = shape_text(x);
            PyErr_Format(PyExc_ValueError, "shapes %S and %S do not broadcast: dims must be equal or 1", one,
                         other);
            Py_XDECREF(one);
            Py_XDECREF(other);
            return -1;
        }
        together.dims[rank - i] = a == 1 ? b : a;
    }
    memcpy(shape->dims, together.dims, sizeof shape->dims);
    shape->rank = rank;
    return 0;
}

static PyObject *no_meaning(const char *function, we_array_dtype dtype) {
    return PyErr_Format(PyExc_TypeError, "%s() has no meaning for %s", function, we_array_dtype_name(dtype));
}

/* ---- Functions of one array ---- */

static PyObject *unary(native_state *state, we_array_unary_fn fn, PyObject *value) {
    we_array_types types;
    we_error error;
    we_status status;
    Array *x = we_native_array_from(state, value, -1);
    if (x == NULL) {
        return NULL;
    }
    if (!we_array_unary_types(fn, x->view.dtype, &types)) {
        no_meaning(we_array_unary_name(fn), x->view.dtype);
        Py_DECREF(x);
        return NULL;
    }
    Array *out = we_native_array_new_like(state, types.result, &x->view);
    if (out != NULL) {
        WE_NATIVE_RUN(we_native_count(&x->view), status, we_array_unary(fn, &x->view, &out->view, &error));
        if (status != WE_OK) {
            Py_CLEAR(out);
            we_native_array_raise(&error);
        }
    }
    Py_DECREF(x);
    return (PyObject *)out;
}

/* ---- Functions of two ---- */

static bool is_compare(we_array_binary_fn fn) {
    return fn >= WE_ARRAY_BINARY_equal && fn <= WE_ARRAY_BINARY_greater_equal;
}

/* Integers have no fractions; floats raised to them need none of pow(): NumPy's shortcuts. */
static int shortcut_of_pow(const operand *base, const operand *exponent) {
    if (base->array == NULL || exponent->number == NULL || !PyFloat_Check(exponent->number) ||
        strchr("fc", we_array_dtype_kind(base->view.dtype)) == NULL) {
        if (base->array == NULL || exponent->number == NULL || !PyLong_CheckExact(exponent->number)) {
            return -1;
        }
    }
    double power = PyFloat_AsDouble(exponent->number);
    bool floating = strchr("fc", we_array_dtype_kind(base->view.dtype)) != NULL;
    PyErr_Clear(); /* too large for a double is no shortcut */
    return base->view.dtype == WE_ARRAY_BOOL ? -1
           : power == 2.0                    ? WE_ARRAY_UNARY_square
           : power == 1.0                    ? WE_ARRAY_UNARY_positive
           : power == 0.5 && floating        ? WE_ARRAY_UNARY_sqrt
           : power == -1.0 && floating       ? WE_ARRAY_UNARY_reciprocal
                                             : -1;
}

static int check_whole_power(we_array_dtype dtype, const operand *exponent) {
    bool negative = false;
    if (we_array_dtype_kind(dtype) != 'i') {
        return 0;
    }
    if (exponent->number != NULL) {
        int overflow;
        long long value = PyLong_AsLongLongAndOverflow(exponent->number, &overflow);
        negative = overflow < 0 || value < 0;
    } else {
        we_error error;
        int64_t least = 0;
        we_array low = {.dtype = WE_ARRAY_I64, .data = (char *)&least};
        if (we_native_count(&exponent->view) > 0 &&
            we_array_reduce(WE_ARRAY_REDUCE_min, exponent->view.dtype, &exponent->view,
                            (1u << exponent->view.rank) - 1, 1, &low, &error) != WE_OK) {
            we_native_array_raise(&error);
            return -1;
        }
        negative = least < 0;
    }
    if (negative) {
        PyErr_SetString(PyExc_ValueError,
                        "integers to negative powers are no integers: convert the base to float64");
    }
    return negative ? -1 : 0;
}

/* What two operands are computed in. Fills in the numbers. */
static int settle(we_array_binary_fn fn, operand *operands, we_array_dtype *dtype, we_array_types *types) {
    *dtype = common_dtype(operands, 2);
    if (!we_array_binary_types(fn, *dtype, types)) {
        no_meaning(we_array_binary_name(fn), *dtype);
        return -1;
    }
    if (fn == WE_ARRAY_BINARY_pow && check_whole_power(*dtype, &operands[1]) < 0) {
        return -1;
    }
    bool stored = operand_store(&operands[0], types->computed) == 0 &&
                  operand_store(&operands[1], types->computed) == 0;
    if (!stored && is_compare(fn) && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear(); /* a number beyond a dtype compares well with its elements */
        *dtype = WE_ARRAY_F64;
        stored = we_array_binary_types(fn, *dtype, types) && operand_store(&operands[0], *dtype) == 0 &&
                 operand_store(&operands[1], *dtype) == 0;
    }
    return stored ? 0 : -1;
}

static PyObject *binary_new(native_state *state, we_array_binary_fn fn, operand *operands) {
    we_array_dtype dtype;
    we_array_types types;
    we_error error;
    we_status status;
    if (settle(fn, operands, &dtype, &types) < 0) {
        return NULL;
    }
    we_array shape = operands[0].view;
    if (we_native_broadcast(&operands[1].view, &shape) < 0) {
        return NULL;
    }
    Array *out = we_native_array_new_like(state, types.result, &shape);
    if (out == NULL) {
        return NULL;
    }
    WE_NATIVE_RUN(we_native_count(&out->view), status,
                  we_array_binary(fn, dtype, &operands[0].view, &operands[1].view, &out->view, &error));
    if (status != WE_OK) {
        Py_DECREF(out);
        return we_native_array_raise(&error);
    }
    return (PyObject *)out;
}

static PyObject *binary(native_state *state, we_array_binary_fn fn, PyObject *a, PyObject *b) {
    operand operands[2] = {{0}};
    PyObject *result = NULL;
    if (operand_open(state, a, &operands[0]) == 0 && operand_open(state, b, &operands[1]) == 0) {
        int shortcut = fn == WE_ARRAY_BINARY_pow ? shortcut_of_pow(&operands[0], &operands[1]) : -1;
        bool widens = shortcut >= 0 && common_dtype(operands, 2) != operands[0].view.dtype;
        result = shortcut >= 0 && !widens ? unary(state, (we_array_unary_fn)shortcut, a)
                                          : binary_new(state, fn, operands);
    }
    operand_close(&operands[0]);
    operand_close(&operands[1]);
    return result;
}

/* ---- The module's functions, one of each row ---- */

#define WE_ARRAY_ROW(function, class, result, ...)
#define WE_ARRAY_FN(function)                                                                                \
    static PyObject *native_##function(PyObject *module, PyObject *x) {                                      \
        return unary(PyModule_GetState(module), WE_ARRAY_UNARY_##function, x);                               \
    }
#include "walle/array_unary.inc"
#undef WE_ARRAY_FN

static PyObject *binary_call(PyObject *module, we_array_binary_fn fn, PyObject *const *args,
                             Py_ssize_t count) {
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "%s() takes two arguments, not %zd", we_array_binary_name(fn),
                            count);
    }
    return binary(PyModule_GetState(module), fn, args[0], args[1]);
}

#define WE_ARRAY_FN(function)                                                                                \
    static PyObject *native_##function(PyObject *module, PyObject *const *args, Py_ssize_t count) {          \
        return binary_call(module, WE_ARRAY_BINARY_##function, args, count);                                 \
    }
#include "walle/array_binary.inc"
#undef WE_ARRAY_FN

/* where(condition, x1, x2, /) */
static PyObject *native_where(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    native_state *state = PyModule_GetState(module);
    operand operands[3] = {{0}};
    Array *out = NULL;
    if (count != 3) {
        return PyErr_Format(PyExc_TypeError,
                            "where() takes a condition and two arrays; nonzero() finds places");
    }
    for (int i = 0; i < 3; i++) {
        if (operand_open(state, args[i], &operands[i]) < 0) {
            goto done;
        }
    }
    we_array_dtype dtype = common_dtype(operands + 1, 2);
    if (operand_store(&operands[0], WE_ARRAY_BOOL) < 0 || operand_store(&operands[1], dtype) < 0 ||
        operand_store(&operands[2], dtype) < 0) {
        goto done;
    }
    we_array shape = operands[0].view;
    if (we_native_broadcast(&operands[1].view, &shape) < 0 ||
        we_native_broadcast(&operands[2].view, &shape) < 0) {
        goto done;
    }
    out = we_native_array_new_like(state, dtype, &shape);
    if (out != NULL) {
        we_error error;
        we_status status;
        WE_NATIVE_RUN(
            we_native_count(&out->view), status,
            we_array_where(&operands[0].view, &operands[1].view, &operands[2].view, &out->view, &error));
        if (status != WE_OK) {
            Py_CLEAR(out);
            we_native_array_raise(&error);
        }
    }
done:
    for (int i = 0; i < 3; i++) {
        operand_close(&operands[i]);
    }
    return (PyObject *)out;
}

/* clip(x, /, min=None, max=None): the result has the dtype of x where x is floating or the bounds fit it. */
static PyObject *native_clip(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "min", "max", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[3] = {NULL};
    operand operands[3] = {{0}};
    if (we_native_arguments("clip", names, 1, 3, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    bool low = given[1] != NULL && given[1] != Py_None, high = given[2] != NULL && given[2] != Py_None;
    if (!low && !high) {
        return unary(state, WE_ARRAY_UNARY_positive, given[0]);
    }
    if (!low || !high) {
        return binary(state, low ? WE_ARRAY_BINARY_maximum : WE_ARRAY_BINARY_minimum, given[0],
                      given[low ? 1 : 2]);
    }
    Array *out = NULL;
    for (int i = 0; i < 3; i++) {
        if (operand_open(state, given[i], &operands[i]) < 0) {
            goto done;
        }
    }
    we_array_dtype dtype = common_dtype(operands, 3);
    we_array shape = {0};
    for (int i = 0; i < 3; i++) {
        if (operand_store(&operands[i], dtype) < 0 || we_native_broadcast(&operands[i].view, &shape) < 0) {
            goto done;
        }
    }
    out = we_native_array_new_like(state, dtype, &shape);
    if (out != NULL) {
        we_error error;
        we_status status;
        WE_NATIVE_RUN(
            we_native_count(&out->view), status,
            we_array_clip(&operands[0].view, &operands[1].view, &operands[2].view, &out->view, &error));
        if (status != WE_OK) {
            Py_CLEAR(out);
            we_native_array_raise(&error);
        }
    }
done:
    for (int i = 0; i < 3; i++) {
        operand_close(&operands[i]);
    }
    return (PyObject *)out;
}

/* broadcast_shapes(*shapes) */
static PyObject *native_broadcast_shapes(PyObject *Py_UNUSED(module), PyObject *const *args,
                                         Py_ssize_t count) {
    we_array shape = {0};
    for (Py_ssize_t i = 0; i < count; i++) {
        we_array x = {0};
        x.rank = we_native_ints("broadcast_shapes", "shape", args[i], x.dims, WE_MAX_RANK);
        if (x.rank < 0 || we_native_broadcast(&x, &shape) < 0) {
            return NULL;
        }
    }
    return shape_text(&shape);
}

PyMethodDef we_native_elementwise_functions[] = {
    {"broadcast_shapes", (PyCFunction)(void (*)(void))native_broadcast_shapes, METH_FASTCALL,
     "broadcast_shapes($module, *shapes)\n--\n\nThe shape that shapes have together."},
#define WE_ARRAY_FN(function) {#function, native_##function, METH_O, #function "($module, x, /)\n--\n\n"},
#include "walle/array_unary.inc"
#undef WE_ARRAY_FN
#define WE_ARRAY_FN(function)                                                                                \
    {#function, (PyCFunction)(void (*)(void))native_##function, METH_FASTCALL,                               \
     #function "($module, x1, x2, /)\n--\n\n"},
#include "walle/array_binary.inc"
#undef WE_ARRAY_FN
#undef WE_ARRAY_ROW
    {"where", (PyCFunction)(void (*)(void))native_where, METH_FASTCALL,
     "where($module, condition, x1, x2, /)\n--\n\nTake x1 where the condition holds, else x2."},
    {"clip", (PyCFunction)(void (*)(void))native_clip, METH_FASTCALL | METH_KEYWORDS,
     "clip($module, x, /, min=None, max=None)\n--\n\nKeep the elements within bounds."},
    {0},
};

/* ---- Operators ---- */

/* Text and the like are no operands: let Python say so. */
static bool can_be_operand(PyObject *value) {
    return we_native_is_array(value) || we_native_is_number(value) || PyList_Check(value) ||
           PyTuple_Check(value) || (PyObject_CheckBuffer(value) && !PyBytes_Check(value));
}

static PyObject *operate(we_array_binary_fn fn, PyObject *a, PyObject *b) {
    if (!can_be_operand(a) || !can_be_operand(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return binary(we_native_state(we_native_is_array(a) ? a : b), fn, a, b);
}

static PyObject *operate_in_place(we_array_binary_fn fn, PyObject *a, PyObject *b) {
    if (!can_be_operand(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    native_state *state = we_native_state(a);
    Array *self = (Array *)a;
    operand operands[2] = {{0}};
    we_array_dtype dtype;
    we_array_types types;
    we_error error;
    we_status status;
    PyObject *result = NULL;
    if (operand_open(state, a, &operands[0]) < 0 || operand_open(state, b, &operands[1]) < 0 ||
        settle(fn, operands, &dtype, &types) < 0) {
        goto done;
    }
    we_array shape = operands[1].view;
    if (we_native_broadcast(&self->view, &shape) < 0) {
        goto done;
    }
    if (self->readonly) {
        PyErr_SetString(PyExc_ValueError, "the array's memory is read-only: copy() it first");
    } else if (!we_native_dtype_same_kind(types.result, self->view.dtype)) {
        PyErr_Format(PyExc_TypeError, "%s() gives %s, which an array of %s cannot take in place",
                     we_array_binary_name(fn), we_array_dtype_name(types.result),
                     we_array_dtype_name(self->view.dtype));
    } else if (shape.rank != self->view.rank ||
               memcmp(shape.dims, self->view.dims, (size_t)shape.rank * sizeof *shape.dims) != 0) {
        PyErr_SetString(PyExc_ValueError, "the result is larger than the array it should go into");
    } else {
        WE_NATIVE_RUN(we_native_count(&self->view), status,
                      we_array_binary(fn, dtype, &operands[0].view, &operands[1].view, &self->view, &error));
        result = status == WE_OK ? Py_NewRef(a) : we_native_array_raise(&error);
    }
done:
    operand_close(&operands[0]);
    operand_close(&operands[1]);
    return result;
}

#define OPERATOR(slot, fn)                                                                                   \
    PyObject *we_native_array_##slot(PyObject *a, PyObject *b) {                                             \
        return operate(WE_ARRAY_BINARY_##fn, a, b);                                                          \
    }                                                                                                        \
    PyObject *we_native_array_inplace_##slot(PyObject *a, PyObject *b) {                                     \
        return operate_in_place(WE_ARRAY_BINARY_##fn, a, b);                                                 \
    }
#include "array_operators.inc"
#undef OPERATOR

PyObject *we_native_array_power(PyObject *a, PyObject *b, PyObject *modulus) {
    if (modulus != Py_None) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return operate(WE_ARRAY_BINARY_pow, a, b);
}

PyObject *we_native_array_inplace_power(PyObject *a, PyObject *b, PyObject *modulus) {
    if (modulus != Py_None) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return operate_in_place(WE_ARRAY_BINARY_pow, a, b);
}

PyObject *we_native_array_divmod(PyObject *a, PyObject *b) {
    PyObject *quotient = operate(WE_ARRAY_BINARY_floor_divide, a, b);
    if (quotient == NULL || quotient == Py_NotImplemented) {
        return quotient;
    }
    PyObject *rest = operate(WE_ARRAY_BINARY_remainder, a, b);
    return rest ? Py_BuildValue("(NN)", quotient, rest) : (Py_DECREF(quotient), NULL);
}

PyObject *we_native_array_negative(PyObject *a) {
    return unary(we_native_state(a), WE_ARRAY_UNARY_negative, a);
}

PyObject *we_native_array_positive(PyObject *a) {
    return unary(we_native_state(a), WE_ARRAY_UNARY_positive, a);
}

PyObject *we_native_array_absolute(PyObject *a) {
    return unary(we_native_state(a), WE_ARRAY_UNARY_abs, a);
}

PyObject *we_native_array_invert(PyObject *a) {
    return unary(we_native_state(a), WE_ARRAY_UNARY_bitwise_invert, a);
}

PyObject *we_native_array_richcompare(PyObject *a, PyObject *b, int op) {
    static const we_array_binary_fn functions[] = {
        [Py_LT] = WE_ARRAY_BINARY_less,    [Py_LE] = WE_ARRAY_BINARY_less_equal,
        [Py_EQ] = WE_ARRAY_BINARY_equal,   [Py_NE] = WE_ARRAY_BINARY_not_equal,
        [Py_GT] = WE_ARRAY_BINARY_greater, [Py_GE] = WE_ARRAY_BINARY_greater_equal,
    };
    return operate(functions[op], a, b);
}
