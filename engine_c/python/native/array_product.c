/* The matrix product, of stacks of matrices and of vectors. */
#include "array.h" /* first, as Python.h must be */

#include <string.h>

/* Two operands as stacks of matrices: a vector is a matrix of one row, or one column. */
typedef struct {
    we_array x, y, out; /* the stacks' dims, then two; out is dense */
    bool row, column;   /* dims of the result that a vector takes with it */
} stacks;

static int shape_mismatch(const we_array *x, const we_array *y) {
    PyErr_Format(PyExc_ValueError, "matmul(): %lld columns of the first meet %lld rows of the second",
                 (long long)x->dims[x->rank - 1], (long long)y->dims[y->rank - 2]);
    return -1;
}

static void insert_dim(we_array *x, int at) {
    memmove(x->dims + at + 1, x->dims + at, (size_t)(x->rank - at) * sizeof *x->dims);
    memmove(x->strides + at + 1, x->strides + at, (size_t)(x->rank - at) * sizeof *x->strides);
    x->dims[at] = 1;
    x->strides[at] = 0;
    x->rank++;
}

/* The dims of stacks broadcast; the last two are matrices. */
static int align(stacks *s) {
    we_array shape = s->x, other = s->y;
    s->row = s->x.rank == 1;
    s->column = s->y.rank == 1;
    if (s->row) {
        insert_dim(&s->x, 0);
    }
    if (s->column) {
        insert_dim(&s->y, 1);
    }
    if (s->x.dims[s->x.rank - 1] != s->y.dims[s->y.rank - 2]) {
        return shape_mismatch(&s->x, &s->y);
    }
    shape = s->x;
    other = s->y;
    shape.rank -= 2;
    other.rank -= 2;
    if (we_native_broadcast(&other, &shape) < 0) {
        return -1;
    }
    s->out = shape;
    s->out.dims[shape.rank] = s->x.dims[s->x.rank - 2];
    s->out.dims[shape.rank + 1] = s->y.dims[s->y.rank - 1];
    s->out.rank = shape.rank + 2;
    return 0;
}

/* Where matrix number `index` of the stacks is, in an operand. */
static we_array matrix_at(const we_array *stack, const we_array *out, int64_t index) {
    we_array matrix = {.dtype = stack->dtype, .rank = 2, .data = stack->data};
    int batch = stack->rank - 2, out_batch = out->rank - 2;
    for (int axis = out_batch - 1; axis >= 0; axis--) {
        int64_t place = index % out->dims[axis];
        int own = axis - (out_batch - batch);
        index /= out->dims[axis];
        if (own >= 0 && stack->dims[own] != 1) {
            matrix.data += place * stack->strides[own];
        }
    }
    for (int i = 0; i < 2; i++) {
        matrix.dims[i] = stack->dims[batch + i];
        matrix.strides[i] = stack->strides[batch + i];
    }
    return matrix;
}

static we_status multiply(const stacks *s, we_error *error) {
    int64_t count = 1;
    for (int axis = 0; axis < s->out.rank - 2; axis++) {
        count *= s->out.dims[axis];
    }
    for (int64_t i = 0; i < count; i++) {
        we_array x = matrix_at(&s->x, &s->out, i), y = matrix_at(&s->y, &s->out, i);
        we_array out = matrix_at(&s->out, &s->out, i);
        we_status status = we_array_product(&x, &y, &out, error);
        if (status != WE_OK) {
            return status;
        }
    }
    return WE_OK;
}

static PyObject *matmul_arrays(native_state *state, Array *x, Array *y) {
    we_error error;
    we_status status;
    stacks s = {.x = x->view, .y = y->view};
    if (x->view.rank == 0 || y->view.rank == 0) {
        return PyErr_Format(PyExc_ValueError,
                            "matmul() takes arrays of one dim or more: multiply() by numbers");
    }
    if (x->view.rank + 1 > WE_MAX_RANK || y->view.rank + 1 > WE_MAX_RANK) {
        if ((x->view.rank == 1 || y->view.rank == 1) && x->view.rank + y->view.rank > WE_MAX_RANK) {
            return PyErr_Format(PyExc_ValueError, "matmul() of a vector takes at most %d dims",
                                WE_MAX_RANK - 1);
        }
    }
    if (align(&s) < 0) {
        return NULL;
    }
    Array *out = we_native_array_new_like(state, x->view.dtype, &s.out);
    if (out == NULL) {
        return NULL;
    }
    s.out = out->view;
    int64_t work = we_native_count(&s.out) * s.x.dims[s.x.rank - 1];
    WE_NATIVE_RUN(work, status, multiply(&s, &error));
    if (status != WE_OK) {
        Py_DECREF(out);
        return we_native_array_raise(&error);
    }
    if (s.column) {
        out->view.rank--;
    }
    if (s.row) { /* the dim before the last */
        int last = out->view.rank - 1;
        if (s.column) {
            out->view.rank--;
        } else {
            out->view.dims[last - 1] = out->view.dims[last];
            out->view.rank--;
        }
    }
    we_native_set_dense(&out->view);
    return (PyObject *)out;
}

static PyObject *matmul(native_state *state, PyObject *a, PyObject *b) {
    Array *x = we_native_array_from(state, a, -1), *y = x ? we_native_array_from(state, b, -1) : NULL;
    PyObject *result = NULL;
    if (y != NULL) {
        we_array_dtype dtype = we_native_dtype_promote(x->view.dtype, y->view.dtype);
        if (x->view.dtype != dtype) {
            Py_SETREF(x, we_native_array_copy(state, x, (int)dtype));
        }
        if (x != NULL && y->view.dtype != dtype) {
            Py_SETREF(y, we_native_array_copy(state, y, (int)dtype));
        }
        if (dtype == WE_ARRAY_BOOL) {
            PyErr_SetString(PyExc_TypeError, "matmul() has no meaning for bool: convert to an integer dtype");
        } else if (x != NULL && y != NULL) {
            result = matmul_arrays(state, x, y);
        }
    }
    Py_XDECREF(x);
    Py_XDECREF(y);
    return result;
}

static PyObject *native_matmul(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "matmul() takes two arrays, not %zd", count);
    }
    return matmul(PyModule_GetState(module), args[0], args[1]);
}

PyObject *we_native_array_matmul(PyObject *a, PyObject *b) {
    PyObject *other = we_native_is_array(a) ? b : a;
    if (we_native_is_number(other) || (!we_native_is_array(other) && !PyObject_CheckBuffer(other) &&
                                       !PyList_Check(other) && !PyTuple_Check(other))) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return matmul(we_native_state(we_native_is_array(a) ? a : b), a, b);
}

PyObject *we_native_array_inplace_matmul(PyObject *a, PyObject *b) {
    PyObject *product = we_native_array_matmul(a, b);
    if (product == NULL || product == Py_NotImplemented) {
        return product;
    }
    const we_array *to = we_native_view(a), *from = we_native_view(product);
    bool fits =
        to->rank == from->rank && memcmp(to->dims, from->dims, (size_t)to->rank * sizeof *to->dims) == 0;
    int result = -1;
    if (!fits || to->dtype != from->dtype) {
        PyErr_SetString(PyExc_ValueError,
                        "the product has another shape or dtype than the array it should go into");
    } else {
        result = we_native_array_setitem(a, Py_Ellipsis, product);
    }
    Py_DECREF(product);
    return result < 0 ? NULL : Py_NewRef(a);
}

PyMethodDef we_native_product_functions[] = {
    {"matmul", (PyCFunction)(void (*)(void))native_matmul, METH_FASTCALL,
     "matmul($module, x1, x2, /)\n--\n\nThe matrix product, of vectors and of stacks of matrices too."},
    {0},
};
