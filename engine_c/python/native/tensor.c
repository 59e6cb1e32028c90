/* Tensor: one reference to a block of the engine, seen through the buffer protocol. */
#include "native.h"

PyObject *we_native_tensor_wrap(PyTypeObject *type, we_block *block) {
    Tensor *self = (Tensor *)type->tp_alloc(type, 0);
    if (self == NULL) {
        we_block_release(block);
        return NULL;
    }
    self->block = block;
    self->view = we_block_view(block);
    Py_ssize_t stride = (Py_ssize_t)we_dtype_size(self->view.dtype);
    for (int axis = self->view.rank - 1; axis >= 0; axis--) {
        self->shape[axis] = (Py_ssize_t)self->view.dims[axis];
        self->strides[axis] = stride;
        stride *= self->shape[axis];
    }
    return (PyObject *)self;
}

static void tensor_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    we_block_release(((Tensor *)self)->block);
    type->tp_free(self);
    Py_DECREF(type);
}

static int64_t view_count(const we_view *view) {
    int64_t count = 1;
    for (int axis = 0; axis < view->rank; axis++) {
        count *= view->dims[axis];
    }
    return count;
}

/* Copy a lent buffer into a block: same element type and count, or plain bytes of the same size. */
static int block_fill_from_buffer(const we_view *view, size_t nbytes, PyObject *data) {
    Py_buffer buffer;
    if (PyObject_GetBuffer(data, &buffer, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    int dtype = we_native_dtype_of_format(buffer.format, buffer.itemsize);
    bool fits = dtype == (int)view->dtype || dtype == WE_U8 || we_native_shows_as(view->dtype, dtype);
    int result = -1;
    if (!fits) {
        PyErr_Format(PyExc_TypeError, "data holds elements of format '%s', which is not %s",
                     buffer.format ? buffer.format : "B", we_dtype_name(view->dtype));
    } else if ((size_t)buffer.len != nbytes) {
        PyErr_Format(PyExc_ValueError, "data holds %zd bytes where the shape needs %zu", buffer.len, nbytes);
    } else {
        result = nbytes == 0 ? 0 : PyBuffer_ToContiguous(view->data, &buffer, buffer.len, 'C');
    }
    PyBuffer_Release(&buffer);
    return result;
}

/* Copy `data`: a buffer, sequences nested like the shape, or one flat sequence of all elements. */
static int block_fill(we_block *block, PyObject *data) {
    we_view view = we_block_view(block);
    bool texts = view.dtype == WE_STRING;
    if (!texts && PyObject_CheckBuffer(data)) {
        return block_fill_from_buffer(&view, we_block_nbytes(block), data);
    }
    int64_t dims[WE_MAX_RANK];
    int rank = we_native_nested_shape(data, dims);
    if (rank < 0) {
        return -1;
    }
    bool flat = rank == 1 && view.rank != 1 && dims[0] == view_count(&view);
    const int64_t *shape = flat ? dims : view.dims;
    int shape_rank = flat ? 1 : view.rank;
    char *to = view.data;
    return texts ? we_native_texts_fill(block, data, shape, shape_rank)
                 : we_native_nested_fill(data, view.dtype, shape, shape_rank, &to);
}

static int dims_from_sequence(PyObject *shape, int64_t *dims) {
    PyObject *items = PySequence_Tuple(shape); /* nobody can change it while __index__ of an item runs */
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t rank = PyTuple_GET_SIZE(items);
    if (rank > WE_MAX_RANK) {
        PyErr_Format(PyExc_ValueError, "shape has %zd dims, at most %d are allowed", rank, WE_MAX_RANK);
        rank = -1;
    }
    for (Py_ssize_t axis = 0; axis < rank; axis++) {
        dims[axis] = PyLong_AsLongLong(PyTuple_GET_ITEM(items, axis));
        if (dims[axis] < 0) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "shape has a negative dim");
            }
            rank = -1;
        }
    }
    Py_DECREF(items);
    return (int)rank;
}

static PyObject *tensor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"shape", "dtype", "data", NULL};
    PyObject *shape, *data = Py_None;
    const char *dtype_name = "F32";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|sO:Tensor", names, &shape, &dtype_name, &data)) {
        return NULL;
    }
    we_dtype dtype;
    if (!we_dtype_find(dtype_name, &dtype)) {
        return PyErr_Format(PyExc_ValueError, "unknown dtype '%.40s': use a name such as F32, I64 or STRING",
                            dtype_name);
    }
    int64_t dims[WE_MAX_RANK];
    int rank = dims_from_sequence(shape, dims);
    if (rank < 0) {
        return NULL;
    }
    we_block *block;
    we_error error;
    if (we_block_new(dtype, rank, dims, &block, &error) != WE_OK) {
        return we_native_raise(&error);
    }
    if (data != Py_None && block_fill(block, data) < 0) {
        we_block_release(block);
        return NULL;
    }
    return we_native_tensor_wrap(type, block);
}

static PyObject *tensor_get_shape(PyObject *op, void *Py_UNUSED(closure)) {
    Tensor *self = (Tensor *)op;
    PyObject *shape = PyTuple_New(self->view.rank);
    for (int axis = 0; shape != NULL && axis < self->view.rank; axis++) {
        PyObject *dim = PyLong_FromSsize_t(self->shape[axis]);
        if (dim == NULL) {
            Py_CLEAR(shape);
        } else {
            PyTuple_SET_ITEM(shape, axis, dim);
        }
    }
    return shape;
}

static PyObject *tensor_get_dtype(PyObject *op, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(we_dtype_name(((Tensor *)op)->view.dtype));
}

static PyObject *tensor_get_nbytes(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromSize_t(we_block_nbytes(((Tensor *)op)->block));
}

static PyObject *tensor_repr(PyObject *op) {
    PyObject *shape = tensor_get_shape(op, NULL);
    if (shape == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("Tensor(shape=%R, dtype='%s')", shape,
                                          we_dtype_name(((Tensor *)op)->view.dtype));
    Py_DECREF(shape);
    return text;
}

static PyObject *tensor_list_from(const Tensor *self, int axis, const char **from) {
    if (axis == self->view.rank) {
        PyObject *element = we_native_element_get(self->view.dtype, *from);
        *from += we_dtype_size(self->view.dtype);
        return element;
    }
    PyObject *list = PyList_New(self->shape[axis]);
    for (Py_ssize_t i = 0; list != NULL && i < self->shape[axis]; i++) {
        PyObject *item = tensor_list_from(self, axis + 1, from);
        if (item == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, item);
        }
    }
    return list;
}

static PyObject *tensor_tolist(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    const char *from = ((Tensor *)op)->view.data;
    return tensor_list_from((Tensor *)op, 0, &from);
}

static PyObject *tensor_handle(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    uint64_t handle;
    we_error error;
    if (we_block_export(((Tensor *)op)->block, &handle, &error) != WE_OK) {
        return we_native_raise(&error);
    }
    return PyLong_FromUnsignedLongLong(handle);
}

static PyObject *tensor_from_handle(PyObject *type, PyObject *number) {
    if (!PyLong_Check(number)) {
        return PyErr_Format(PyExc_TypeError, "a handle is an integer, not %.100s", Py_TYPE(number)->tp_name);
    }
    uint64_t handle = PyLong_AsUnsignedLongLong(number);
    PyErr_Clear(); /* out of range reads as UINT64_MAX, which the table does not hold either */
    we_block *block;
    if (we_block_import(handle, &block, NULL) != WE_OK) {
        return PyErr_Format(PyExc_ValueError, "tensor handle %S is unknown or was imported already", number);
    }
    return we_native_tensor_wrap((PyTypeObject *)type, block);
}

static int tensor_getbuffer(PyObject *op, Py_buffer *buffer, int flags) {
    static char nothing; /* an empty tensor may have no memory, but a buffer must point somewhere */
    Tensor *self = (Tensor *)op;
    if (self->view.dtype == WE_STRING) {
        PyErr_SetString(PyExc_BufferError, "texts have no buffer; use tolist()");
        buffer->obj = NULL;
        return -1;
    }
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && self->view.rank > 1) {
        PyErr_SetString(PyExc_BufferError, "tensors are row-major, not column-major");
        buffer->obj = NULL;
        return -1;
    }
    *buffer = (Py_buffer){
        .buf = self->view.data ? self->view.data : &nothing,
        .obj = Py_NewRef(op),
        .len = (Py_ssize_t)we_block_nbytes(self->block),
        .itemsize = (Py_ssize_t)we_dtype_size(self->view.dtype),
        .ndim = self->view.rank,
        .format = (flags & PyBUF_FORMAT) ? (char *)we_dtype_format(self->view.dtype) : NULL,
        .shape = (flags & PyBUF_ND) ? self->shape : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL,
    };
    if (!(flags & PyBUF_ND)) {
        buffer->ndim = 1;
    }
    return 0;
}

static PyMethodDef tensor_methods[] = {
    {"tolist", tensor_tolist, METH_NOARGS, "Return the elements as nested lists of Python numbers or texts."},
    {"handle", tensor_handle, METH_NOARGS, "Export one reference, to be imported once, in any interpreter."},
    {"from_handle", tensor_from_handle, METH_O | METH_CLASS, "Import the reference that handle() exported."},
    {0},
};
static PyGetSetDef tensor_getset[] = {
    {"shape", tensor_get_shape, NULL, "Dims, outermost first.", NULL},
    {"dtype", tensor_get_dtype, NULL, "Element type, such as F32.", NULL},
    {"nbytes", tensor_get_nbytes, NULL, "Size of the elements in bytes.", NULL},
    {0},
};
static PyType_Slot tensor_slots[] = {
    {Py_tp_doc, "Tensor(shape, dtype='F32', data=None)\n--\n\nDense row-major numbers, or texts, in memory "
                "shared by reference."},
    {Py_tp_new, tensor_new},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_bf_getbuffer, tensor_getbuffer},
    {0, NULL},
};
PyType_Spec we_native_tensor_spec = {
    .name = "walle_engine._native.Tensor",
    .basicsize = sizeof(Tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tensor_slots,
};
