/* walle_engine._native: the engine for isolated interpreters.
 *
 * Invariants:
 *  - Multi-phase init, heap types, one module state per interpreter. What is static here is either constant
 * or the model registry, which is shared by all interpreters on purpose and guarded by its own mutex.
 *  - The registry's mutex is never waited for by a thread that holds a GIL, except to drop a reference, and
 * its holder never asks for a GIL.
 *  - Tensor memory belongs to the engine's reference-counted blocks; a Tensor is one reference to a block.
 *  - A buffer that Python code lends us is read only between PyObject_GetBuffer and PyBuffer_Release; the GIL
 * is released only round engine calls that run, load or prepare a model.
 *  - Errors are walle_shared.errors', imported when first needed inside the interpreter that raises.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "walle/engine.h"

/* ---- Element types
 * -------------------------------------------------------------------------------------------- */

static const char dtype_kinds[] = {
#define WE_DTYPE_ROW(name, size, kind, format) [WE_##name] = kind,
#include "walle/dtype.inc"
#undef WE_DTYPE_ROW
};

/* The dtype of a buffer's elements, or -1. Letters of one kind differ only in size, which the buffer states.
 */
static int dtype_of_format(const char *format, Py_ssize_t itemsize) {
    if (format == NULL) {
        format = "B";
    }
    if (*format == '@' || *format == '=' || *format == (PY_LITTLE_ENDIAN ? '<' : '>')) {
        format++;
    }
    if (format[0] == '\0' || format[1] != '\0') {
        return -1;
    }
    char kind = 0;
    if (strchr("efd", *format)) {
        kind = 'f';
    } else if (strchr("bhilqn", *format)) {
        kind = 'i';
    } else if (strchr("BHILQN", *format)) {
        kind = 'u';
    } else if (*format == '?') {
        kind = 'b';
    }
    for (int dtype = 0; dtype < WE_DTYPE_COUNT; dtype++) {
        if (dtype != WE_BF16 && dtype_kinds[dtype] == kind && (Py_ssize_t)we_dtype_size(dtype) == itemsize) {
            return dtype;
        }
    }
    return -1;
}

static double bf16_unpack(const void *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static void bf16_pack(double value, void *to) {
    float narrow = (float)value;
    uint32_t wide;
    memcpy(&wide, &narrow, sizeof wide);
    uint16_t bits = (uint16_t)(wide >> 16);
    if (narrow != narrow) {
        bits |= 0x40; /* rounding could turn a NaN into an infinity */
    } else {
        bits = (uint16_t)((wide + 0x7fff + (bits & 1)) >> 16); /* nearest, ties to even */
    }
    memcpy(to, &bits, sizeof bits);
}

/* One element as a Python number. */
static PyObject *element_get(we_dtype dtype, const void *from) {
    union {
        float f32;
        double f64;
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
    } v;
    memcpy(&v, from, we_dtype_size(dtype));
    switch (dtype) {
    case WE_F32:
        return PyFloat_FromDouble(v.f32);
    case WE_F64:
        return PyFloat_FromDouble(v.f64);
    case WE_F16:
        return PyFloat_FromDouble(PyFloat_Unpack2(from, PY_LITTLE_ENDIAN));
    case WE_BF16:
        return PyFloat_FromDouble(bf16_unpack(from));
    case WE_I8:
        return PyLong_FromLong(v.i8);
    case WE_I16:
        return PyLong_FromLong(v.i16);
    case WE_I32:
        return PyLong_FromLong(v.i32);
    case WE_I64:
        return PyLong_FromLongLong(v.i64);
    case WE_U8:
        return PyLong_FromLong(v.u8);
    case WE_U16:
        return PyLong_FromLong(v.u16);
    case WE_U32:
        return PyLong_FromUnsignedLong(v.u32);
    case WE_U64:
        return PyLong_FromUnsignedLongLong(v.u64);
    case WE_BOOL:
        return PyBool_FromLong(v.u8 != 0);
    case WE_DTYPE_COUNT:
        break;
    }
    Py_UNREACHABLE();
}

static int element_set_float(we_dtype dtype, void *to, PyObject *number) {
    double value = PyFloat_AsDouble(number);
    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (dtype == WE_F32) {
        float narrow = (float)value;
        memcpy(to, &narrow, sizeof narrow);
    } else if (dtype == WE_F64) {
        memcpy(to, &value, sizeof value);
    } else if (dtype == WE_BF16) {
        bf16_pack(value, to);
    } else {
        return PyFloat_Pack2(value, to, PY_LITTLE_ENDIAN); /* raises OverflowError */
    }
    return 0;
}

static int element_set_signed(we_dtype dtype, void *to, PyObject *index) {
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(index, &overflow);
    int spare_bits = 64 - 8 * (int)we_dtype_size(dtype);
    long long highest = (long long)(INT64_MAX >> spare_bits);
    if (overflow || value > highest || value < -highest - 1) {
        PyErr_Format(PyExc_OverflowError, "%S does not fit %s", index, we_dtype_name(dtype));
        return -1;
    }
    memcpy(to, &value, we_dtype_size(dtype)); /* little-endian: the low bytes come first */
    return 0;
}

static int element_set_unsigned(we_dtype dtype, void *to, PyObject *index) {
    unsigned long long value = PyLong_AsUnsignedLongLong(index);
    bool failed = value == (unsigned long long)-1 && PyErr_Occurred();
    int spare_bits = 64 - 8 * (int)we_dtype_size(dtype);
    if (failed || value > UINT64_MAX >> spare_bits) {
        PyErr_Format(PyExc_OverflowError, "%S does not fit %s", index, we_dtype_name(dtype));
        return -1;
    }
    memcpy(to, &value, we_dtype_size(dtype));
    return 0;
}
static_assert(PY_LITTLE_ENDIAN, "model files and integer stores assume a little-endian machine");

/* Store a Python number; floats are not rounded into integers behind the caller's back. */
static int element_set(we_dtype dtype, void *to, PyObject *number) {
    if (dtype_kinds[dtype] == 'f') {
        return element_set_float(dtype, to, number);
    }
    PyObject *index = PyNumber_Index(number);
    if (index == NULL) {
        return -1;
    }
    int result = 0;
    if (dtype_kinds[dtype] == 'b') {
        *(uint8_t *)to = (uint8_t)(PyObject_IsTrue(index) == 1);
    } else if (dtype_kinds[dtype] == 'i') {
        result = element_set_signed(dtype, to, index);
    } else {
        result = element_set_unsigned(dtype, to, index);
    }
    Py_DECREF(index);
    return result;
}

/* ---- Module state and errors
 * ---------------------------------------------------------------------------------- */

typedef struct {
    PyTypeObject *tensor_type;
    PyTypeObject *model_type;
    PyTypeObject *session_type;
} module_state;

static module_state *state_of(PyObject *self) {
    return PyType_GetModuleState(Py_TYPE(self)); /* our types have no subclasses */
}

static PyObject *lossy_text(const char *text) {
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

/* Raise what walle_engine.errors makes of an engine failure. Always returns NULL. */
static PyObject *raise_engine_error(const we_error *error) {
    PyObject *module = PyImport_ImportModule("walle_engine.errors");
    if (module == NULL) {
        return NULL;
    }
    /* A slot cuts long text anywhere, also inside a character: hence "replace". */
    PyObject *exception =
        PyObject_CallMethod(module, "exception_for", "sNNN", we_status_name(error->status),
                            lossy_text(error->message), lossy_text(error->op), lossy_text(error->node));
    Py_DECREF(module);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

/* ---- Tensor
 * --------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD we_block *block;
    we_view view;
    Py_ssize_t shape[WE_MAX_RANK];
    Py_ssize_t strides[WE_MAX_RANK]; /* bytes */
} Tensor;

/* Wrap a block; takes over the caller's reference even on failure. */
static PyObject *tensor_from_block(PyTypeObject *type, we_block *block) {
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

/* Text and bytes are sequences too, but never of numbers we want. */
static bool is_number_sequence(PyObject *object) {
    return PySequence_Check(object) && !PyUnicode_Check(object) && !PyObject_CheckBuffer(object);
}

/* Fill dims from nested sequences by their first elements; filling checks the rest. Rank or -1 with an
 * exception. */
static int nested_shape(PyObject *data, int64_t *dims) {
    int rank = 0;
    Py_INCREF(data);
    while (is_number_sequence(data)) {
        Py_ssize_t length = PySequence_Size(data);
        if (length < 0 || rank == WE_MAX_RANK) {
            if (length >= 0) {
                PyErr_Format(PyExc_ValueError, "nested more than %d deep", WE_MAX_RANK);
            }
            Py_DECREF(data);
            return -1;
        }
        dims[rank++] = length;
        if (length == 0) {
            break;
        }
        Py_SETREF(data, PySequence_GetItem(data, 0));
        if (data == NULL) {
            return -1;
        }
    }
    Py_DECREF(data);
    return rank;
}

/* Copy nested sequences of exactly this shape. `to` moves on past what was written. */
static int nested_fill(PyObject *data, we_dtype dtype, const int64_t *dims, int rank, char **to) {
    if (rank == 0) {
        if (element_set(dtype, *to, data) < 0) {
            return -1;
        }
        *to += we_dtype_size(dtype);
        return 0;
    }
    PyObject *items = is_number_sequence(data) ? PySequence_Fast(data, "expected a sequence") : NULL;
    if (items == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_TypeError, "expected a sequence of %lld, found %.100s", (long long)dims[0],
                         Py_TYPE(data)->tp_name);
        }
        return -1;
    }
    int result = 0;
    if (PySequence_Fast_GET_SIZE(items) != dims[0]) {
        PyErr_Format(PyExc_ValueError, "expected %lld items, found %zd: all rows must have the same length",
                     (long long)dims[0], PySequence_Fast_GET_SIZE(items));
        result = -1;
    }
    /* Converting an item runs its own code, which may change the list: look at the size every time. */
    for (int64_t i = 0; result == 0 && i < dims[0]; i++) {
        if (i >= PySequence_Fast_GET_SIZE(items)) {
            PyErr_SetString(PyExc_RuntimeError, "sequence changed while it was copied");
            result = -1;
            break;
        }
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i));
        result = nested_fill(item, dtype, dims + 1, rank - 1, to);
        Py_DECREF(item);
    }
    Py_DECREF(items);
    return result;
}

/* Copy a lent buffer into a block: same element type and count, or plain bytes of the same size. */
static int block_fill_from_buffer(const we_view *view, size_t nbytes, PyObject *data) {
    Py_buffer buffer;
    if (PyObject_GetBuffer(data, &buffer, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    int dtype = dtype_of_format(buffer.format, buffer.itemsize);
    bool fits = dtype == (int)view->dtype || dtype == WE_U8 || (dtype == WE_U16 && view->dtype == WE_BF16);
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
static int block_fill(const we_block *block, PyObject *data) {
    we_view view = we_block_view(block);
    if (PyObject_CheckBuffer(data)) {
        return block_fill_from_buffer(&view, we_block_nbytes(block), data);
    }
    int64_t dims[WE_MAX_RANK];
    int rank = nested_shape(data, dims);
    if (rank < 0) {
        return -1;
    }
    char *to = view.data;
    if (rank == 1 && view.rank != 1 && dims[0] == view_count(&view)) {
        return nested_fill(data, view.dtype, dims, 1, &to);
    }
    return nested_fill(data, view.dtype, view.dims, view.rank, &to);
}

static int dims_from_sequence(PyObject *shape, int64_t *dims) {
    PyObject *items = PySequence_Fast(shape, "shape must be a sequence of integers");
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t rank = PySequence_Fast_GET_SIZE(items);
    if (rank > WE_MAX_RANK) {
        PyErr_Format(PyExc_ValueError, "shape has %zd dims, at most %d are allowed", rank, WE_MAX_RANK);
        rank = -1;
    }
    for (Py_ssize_t axis = 0; axis < rank; axis++) {
        dims[axis] = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(items, axis));
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
        return PyErr_Format(PyExc_ValueError, "unknown dtype '%.40s': use a name such as F32 or I64",
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
        return raise_engine_error(&error);
    }
    if (data != Py_None && block_fill(block, data) < 0) {
        we_block_release(block);
        return NULL;
    }
    return tensor_from_block(type, block);
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
        PyObject *element = element_get(self->view.dtype, *from);
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
        return raise_engine_error(&error);
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
    return tensor_from_block((PyTypeObject *)type, block);
}

static int tensor_getbuffer(PyObject *op, Py_buffer *buffer, int flags) {
    static char nothing; /* an empty tensor may have no memory, but a buffer must point somewhere */
    Tensor *self = (Tensor *)op;
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
    {"tolist", tensor_tolist, METH_NOARGS, "Return the elements as nested lists of Python numbers."},
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
    {Py_tp_doc,
     "Tensor(shape, dtype='F32', data=None)\n--\n\nDense row-major numbers in memory shared by reference."},
    {Py_tp_new, tensor_new},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_bf_getbuffer, tensor_getbuffer},
    {0, NULL},
};
static PyType_Spec tensor_spec = {
    .name = "walle_engine._native.Tensor",
    .basicsize = sizeof(Tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tensor_slots,
};

/* ---- Registry: one mapped model per file, whichever interpreter asks
 * ------------------------------------------ */

typedef struct shared_model {
    struct shared_model *next;
    we_model *model;
    size_t users;
    dev_t device; /* device, inode, size and times tell one state of one file from another */
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
} shared_model;

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static shared_model *registry; /* guarded by registry_lock */

static bool same_file(const shared_model *entry, const struct stat *file) {
    return entry->device == file->st_dev && entry->inode == file->st_ino && entry->size == file->st_size &&
           memcmp(&entry->modified, &file->st_mtim, sizeof file->st_mtim) == 0 &&
           memcmp(&entry->changed, &file->st_ctim, sizeof file->st_ctim) == 0;
}

/* Find or load. Holding the lock while loading makes a second asker wait for the first one's model. */
static we_status registry_open(const char *path, shared_model **out, we_error *error) {
    struct stat file = {0};
    bool known = stat(path, &file) == 0; /* where not, loading says why */
    we_status status = WE_OK;
    *out = NULL;
    pthread_mutex_lock(&registry_lock);
    for (shared_model *entry = registry; known && entry != NULL; entry = entry->next) {
        if (same_file(entry, &file)) {
            entry->users++;
            *out = entry;
            break;
        }
    }
    if (*out == NULL) {
        shared_model *entry = calloc(1, sizeof *entry);
        if (entry == NULL) {
            status = WE_OUT_OF_MEMORY;
            *error = (we_error){.status = status, .message = "no memory for a model"};
        } else if ((status = we_model_load(path, &entry->model, error)) != WE_OK) {
            free(entry);
        } else {
            *entry = (shared_model){registry,     entry->model, 1,           file.st_dev, file.st_ino,
                                    file.st_size, file.st_mtim, file.st_ctim};
            registry = entry;
            *out = entry;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    return status;
}

static void registry_close(shared_model *entry) {
    pthread_mutex_lock(&registry_lock);
    bool last = --entry->users == 0;
    if (last) {
        shared_model **link = &registry;
        while (*link != entry) {
            link = &(*link)->next;
        }
        *link = entry->next;
    }
    pthread_mutex_unlock(&registry_lock);
    if (last) {
        we_model_release(entry->model);
        free(entry);
    }
}

/* ---- Model
 * ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD shared_model *shared;
} Model;

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"path", NULL};
    PyObject *path;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:Model", names, PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    shared_model *shared;
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = registry_open(PyBytes_AS_STRING(path), &shared, &error);
    Py_END_ALLOW_THREADS;
    Py_DECREF(path);
    if (status != WE_OK) {
        return raise_engine_error(&error);
    }
    Model *self = (Model *)type->tp_alloc(type, 0);
    if (self == NULL) {
        registry_close(shared);
        return NULL;
    }
    self->shared = shared;
    return (PyObject *)self;
}

static void model_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    registry_close(((Model *)self)->shared);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *shape_from_info(const we_io_info *info) {
    if (info->rank < 0) {
        return Py_NewRef(Py_None);
    }
    PyObject *shape = PyTuple_New(info->rank);
    for (int axis = 0; shape != NULL && axis < info->rank; axis++) {
        PyObject *dim = info->dims[axis] >= 0
                            ? PyLong_FromLongLong(info->dims[axis])
                            : PyUnicode_FromString(info->symbols[axis] ? info->symbols[axis] : "");
        if (dim == NULL) {
            Py_CLEAR(shape);
        } else {
            PyTuple_SET_ITEM(shape, axis, dim);
        }
    }
    return shape;
}

typedef we_status (*io_getter)(const we_model *model, size_t index, we_io_info *out, we_error *err);

static PyObject *io_tuple(const we_model *model, size_t count, io_getter getter) {
    PyObject *result = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; result != NULL && i < count; i++) {
        we_io_info info;
        we_error error;
        if (getter(model, i, &info, &error) != WE_OK) {
            Py_DECREF(result);
            return raise_engine_error(&error);
        }
        PyObject *shape = shape_from_info(&info);
        PyObject *item = shape ? Py_BuildValue("ssN", info.name, we_dtype_name(info.dtype), shape) : NULL;
        if (item == NULL) {
            Py_CLEAR(result);
        } else {
            PyTuple_SET_ITEM(result, (Py_ssize_t)i, item);
        }
    }
    return result;
}

static PyObject *model_get_inputs(PyObject *self, void *Py_UNUSED(closure)) {
    const we_model *model = ((Model *)self)->shared->model;
    return io_tuple(model, we_model_input_count(model), we_model_input);
}

static PyObject *model_get_outputs(PyObject *self, void *Py_UNUSED(closure)) {
    const we_model *model = ((Model *)self)->shared->model;
    return io_tuple(model, we_model_output_count(model), we_model_output);
}

/* ---- Session
 * -------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD we_session *session;
    PyObject *model; /* the Model; keeps the registry entry and so the input and output names alive */
} Session;

static PyObject *model_session(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"threads", "precision", NULL};
    we_session_options options = {.threads = 1};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$is:session", names, &options.threads,
                                     &options.precision)) {
        return NULL;
    }
    PyTypeObject *type = state_of(self)->session_type;
    Session *session = (Session *)type->tp_alloc(type, 0);
    if (session == NULL) {
        return NULL;
    }
    session->model = Py_NewRef(self);
    we_model *model = ((Model *)self)->shared->model;
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_session_new(model, &options, &session->session, &error);
    Py_END_ALLOW_THREADS;
    if (status != WE_OK) {
        session->session = NULL;
        Py_DECREF(session);
        return raise_engine_error(&error);
    }
    return (PyObject *)session;
}

static void session_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    Session *self = (Session *)op;
    we_session_release(self->session);
    Py_DECREF(self->model);
    type->tp_free(op);
    Py_DECREF(type);
}

/* What one bound input keeps alive while the engine reads it. */
typedef struct {
    Py_buffer buffer; /* .obj is NULL where none is held */
    we_block *block;  /* a copy of our own, or a reference to a Tensor's block */
    PyObject *name;
} lease;

static void lease_end(lease *held) {
    PyBuffer_Release(&held->buffer); /* does nothing where .obj is NULL */
    we_block_release(held->block);
    Py_XDECREF(held->name);
}

/* The dtype the model wants under this name; F32 for a name it does not know, which the engine will refuse.
 */
static we_dtype wanted_dtype(const we_model *model, const char *name) {
    for (size_t i = 0; i < we_model_input_count(model); i++) {
        we_io_info info;
        if (we_model_input(model, i, &info, NULL) == WE_OK && strcmp(info.name, name) == 0) {
            return info.dtype;
        }
    }
    return WE_F32;
}

/* Use a lent buffer in place where it is dense; else copy it densely. */
static int bind_buffer(we_dtype wanted, PyObject *value, lease *held, we_view *view) {
    if (PyObject_GetBuffer(value, &held->buffer, PyBUF_FULL_RO) < 0) {
        held->buffer.obj = NULL;
        return -1;
    }
    Py_buffer *buffer = &held->buffer;
    int dtype = dtype_of_format(buffer->format, buffer->itemsize);
    if (dtype < 0 || buffer->ndim > WE_MAX_RANK) {
        PyErr_Format(PyExc_TypeError, "a buffer of format '%s' with %d dims is not a tensor",
                     buffer->format ? buffer->format : "B", buffer->ndim);
        return -1;
    }
    *view = (we_view){dtype == WE_U16 && wanted == WE_BF16 ? WE_BF16 : dtype, buffer->ndim, {0}, buffer->buf};
    for (int axis = 0; axis < buffer->ndim; axis++) {
        view->dims[axis] = buffer->shape[axis];
    }
    bool aligned = (uintptr_t)buffer->buf % (uintptr_t)buffer->itemsize == 0;
    if (aligned && PyBuffer_IsContiguous(buffer, 'C')) {
        return 0;
    }
    we_error error;
    if (we_block_new(view->dtype, view->rank, view->dims, &held->block, &error) != WE_OK) {
        held->block = NULL;
        raise_engine_error(&error);
        return -1;
    }
    *view = we_block_view(held->block);
    return buffer->len == 0 ? 0 : PyBuffer_ToContiguous(view->data, buffer, buffer->len, 'C');
}

static int bind_sequence(we_dtype wanted, PyObject *value, lease *held, we_view *view) {
    int64_t dims[WE_MAX_RANK];
    int rank = nested_shape(value, dims);
    if (rank < 0) {
        return -1;
    }
    we_error error;
    if (we_block_new(wanted, rank, dims, &held->block, &error) != WE_OK) {
        held->block = NULL;
        raise_engine_error(&error);
        return -1;
    }
    *view = we_block_view(held->block);
    char *to = view->data;
    return nested_fill(value, wanted, dims, rank, &to);
}

static int bind_input(Session *self, PyObject *name, PyObject *value, lease *held, we_binding *binding) {
    held->name = Py_NewRef(name);
    if (!PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "input names must be strings");
        return -1;
    }
    binding->name = PyUnicode_AsUTF8(name);
    if (binding->name == NULL) {
        return -1;
    }
    if (Py_IS_TYPE(value, state_of((PyObject *)self)->tensor_type)) {
        held->block = we_block_retain(((Tensor *)value)->block);
        binding->view = ((Tensor *)value)->view;
        return 0;
    }
    we_dtype wanted = wanted_dtype(((Model *)self->model)->shared->model, binding->name);
    if (PyObject_CheckBuffer(value)) {
        return bind_buffer(wanted, value, held, &binding->view);
    }
    return bind_sequence(wanted, value, held, &binding->view);
}

static PyObject *outputs_dict(Session *self, const we_model *model, we_block **outputs, size_t count) {
    PyTypeObject *tensor_type = state_of((PyObject *)self)->tensor_type;
    PyObject *result = PyDict_New();
    for (size_t i = 0; i < count; i++) {
        we_io_info info;
        we_error error;
        PyObject *tensor = tensor_from_block(tensor_type, outputs[i]); /* takes the reference in any case */
        if (result == NULL) {
            Py_XDECREF(tensor);
            continue;
        }
        we_status status = we_model_output(model, i, &info, &error);
        if (status != WE_OK) {
            raise_engine_error(&error);
        }
        if (tensor == NULL || status != WE_OK || PyDict_SetItemString(result, info.name, tensor) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(tensor);
    }
    return result;
}

/* Run with everything bound; the GIL is free meanwhile. */
static PyObject *run_bound(Session *self, const we_binding *bindings, size_t input_count) {
    const we_model *model = ((Model *)self->model)->shared->model;
    size_t output_count = we_model_output_count(model);
    we_block **outputs = PyMem_Calloc(output_count + 1, sizeof *outputs);
    if (outputs == NULL) {
        return PyErr_NoMemory();
    }
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_session_run(self->session, bindings, input_count, outputs, &error);
    Py_END_ALLOW_THREADS;
    PyObject *result =
        status == WE_OK ? outputs_dict(self, model, outputs, output_count) : raise_engine_error(&error);
    PyMem_Free(outputs);
    return result;
}

static PyObject *session_run(PyObject *op, PyObject *inputs) {
    Session *self = (Session *)op;
    PyObject *items = PyMapping_Items(inputs); /* a list of our own: nobody can change it under us */
    if (items == NULL) {
        return NULL;
    }
    size_t count = (size_t)PyList_GET_SIZE(items);
    lease *leases = PyMem_Calloc(count + 1, sizeof *leases);
    we_binding *bindings = PyMem_Calloc(count + 1, sizeof *bindings);
    PyObject *result = NULL;
    size_t bound = 0;
    if (leases == NULL || bindings == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (; bound < count; bound++) {
        PyObject *item = PyList_GET_ITEM(items, (Py_ssize_t)bound);
        if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            PyErr_SetString(PyExc_TypeError, "inputs must be a mapping from names to tensors");
            goto done;
        }
        if (bind_input(self, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1), &leases[bound],
                       &bindings[bound]) < 0) {
            goto done;
        }
    }
    result = run_bound(self, bindings, count);
done:
    for (size_t i = 0; leases != NULL && i < count; i++) {
        lease_end(&leases[i]);
    }
    PyMem_Free(bindings);
    PyMem_Free(leases);
    Py_DECREF(items);
    return result;
}

static PyMethodDef session_methods[] = {
    {"run", session_run, METH_O, "run($self, inputs, /)\n--\n\nRun once; returns the outputs by name."},
    {0},
};
static PyType_Slot session_slots[] = {
    {Py_tp_doc, "A model prepared for running; made by Model.session()."},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_methods, session_methods},
    {0, NULL},
};
static PyType_Spec session_spec = {
    .name = "walle_engine._native.Session",
    .basicsize = sizeof(Session),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = session_slots,
};

static PyMethodDef model_methods[] = {
    {"session", (PyCFunction)(void (*)(void))model_session, METH_VARARGS | METH_KEYWORDS,
     "session($self, /, *, threads=1, precision='high')\n--\n\nPrepare the model for running."},
    {0},
};
static PyGetSetDef model_getset[] = {
    {"inputs", model_get_inputs, NULL, "(name, dtype, shape) of each input; a symbolic dim is its name.",
     NULL},
    {"outputs", model_get_outputs, NULL, "(name, dtype, shape) of each output; shape is None where unknown.",
     NULL},
    {0},
};
static PyType_Slot model_slots[] = {
    {Py_tp_doc,
     "Model(path)\n--\n\nA mapped and verified .wmodel file, shared by all interpreters of the process."},
    {Py_tp_new, model_new},
    {Py_tp_dealloc, model_dealloc},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_getset},
    {0, NULL},
};
static PyType_Spec model_spec = {
    .name = "walle_engine._native.Model",
    .basicsize = sizeof(Model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};

/* ---- Module
 * --------------------------------------------------------------------------------------------------- */

static PyObject *native_live_blocks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromLongLong(we_live_blocks());
}

static PyObject *native_isa(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    const char *name;
    we_error error;
    if (we_isa_current(&name, &error) != WE_OK) {
        return raise_engine_error(&error);
    }
    return PyUnicode_FromString(name);
}

static int native_exec(PyObject *module) {
    module_state *state = PyModule_GetState(module);
    struct {
        PyType_Spec *spec;
        PyTypeObject **slot;
    } types[] = {
        {&tensor_spec, &state->tensor_type},
        {&model_spec, &state->model_type},
        {&session_spec, &state->session_type},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        *types[i].slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, types[i].spec, NULL);
        if (*types[i].slot == NULL || PyModule_AddType(module, *types[i].slot) < 0) {
            return -1;
        }
    }
    return 0;
}

static int native_traverse(PyObject *module, visitproc visit, void *arg) {
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->tensor_type);
    Py_VISIT(state->model_type);
    Py_VISIT(state->session_type);
    return 0;
}

static int native_clear(PyObject *module) {
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->tensor_type);
    Py_CLEAR(state->model_type);
    Py_CLEAR(state->session_type);
    return 0;
}

static void native_free(void *module) {
    native_clear(module);
}

static PyMethodDef native_functions[] = {
    {"live_blocks", native_live_blocks, METH_NOARGS,
     "Return the number of tensor blocks alive in the process."},
    {"isa", native_isa, METH_NOARGS, "Return the best instruction set in use."},
    {0},
};
static PyModuleDef_Slot native_slots[] = {
    {Py_mod_exec, native_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};
static struct PyModuleDef native_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "walle_engine._native",
    .m_doc = "The tensor engine for isolated interpreters.",
    .m_size = sizeof(module_state),
    .m_methods = native_functions,
    .m_slots = native_slots,
    .m_traverse = native_traverse,
    .m_clear = native_clear,
    .m_free = native_free,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&native_module);
}
