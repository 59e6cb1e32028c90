/* DLPack both ways.
 *
 * Invariants:
 *  - What is handed out holds a reference to an engine block, not to a Python object: its deleter needs no
 * GIL and may run in any thread and interpreter.
 *  - A capsule taken in is renamed before its memory is looked at, so that it is given back exactly once.
 *
 * Source: dlpack.h of DLPack 1.1, whose structs are repeated here with our names. */
#include "array.h" /* first, as Python.h must be */

#include <stdlib.h>
#include <string.h>

enum { CPU = 1, READ_ONLY = 1, COPIED = 2 };

typedef struct {
    void *data;
    int32_t device_type, device_id;
    int32_t rank;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides; /* in elements; strides NULL where dense */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

typedef struct dl_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_versioned *self);
    uint64_t flags;
    dl_tensor tensor;
} dl_versioned;

/* Element types: dtype, DLPack's code and bits. */
static const struct {
    we_dtype dtype;
    uint8_t code, bits;
} TYPES[] = {
    {WE_I8, 0, 8},           {WE_I16, 0, 16},     {WE_I32, 0, 32},         {WE_I64, 0, 64},
    {WE_U8, 1, 8},           {WE_U16, 1, 16},     {WE_U32, 1, 32},         {WE_U64, 1, 64},
    {WE_F16, 2, 16},         {WE_F32, 2, 32},     {WE_F64, 2, 64},         {WE_BF16, 4, 16},
    {WE_BOOL, 6, 8},         {WE_F8_E4M3, 10, 8}, {WE_F8_E4M3FNUZ, 11, 8}, {WE_F8_E5M2, 12, 8},
    {WE_F8_E5M2FNUZ, 13, 8}, {WE_F8_E8M0, 14, 8},
};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

/* ---- Out ---- */

typedef struct {
    we_block *block;
    int64_t shape[WE_MAX_RANK], strides[WE_MAX_RANK];
    union {
        dl_managed plain;
        dl_versioned versioned;
    } dl;
} exported;

static void free_exported(exported *e) {
    we_block_release(e->block);
    free(e);
}

static void delete_plain(dl_managed *self) {
    free_exported(self->context);
}

static void delete_versioned(dl_versioned *self) {
    free_exported(self->context);
}

/* A capsule nobody took still has its first name. */
static void drop_plain(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        dl_managed *managed = PyCapsule_GetPointer(capsule, "dltensor");
        managed->deleter(managed);
    }
}

static void drop_versioned(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        dl_versioned *managed = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        managed->deleter(managed);
    }
}

static int describe(exported *e, dl_tensor *tensor) {
    we_view view = we_block_view(e->block);
    for (int i = 0; i < TYPE_COUNT; i++) {
        if (TYPES[i].dtype == view.dtype) {
            *tensor = (dl_tensor){.data = view.data,
                                  .device_type = CPU,
                                  .rank = view.rank,
                                  .code = TYPES[i].code,
                                  .bits = TYPES[i].bits,
                                  .lanes = 1,
                                  .shape = e->shape};
            memcpy(e->shape, view.dims, sizeof e->shape);
            return 0;
        }
    }
    PyErr_Format(PyExc_BufferError, "DLPack has no element type for %s", we_dtype_name(view.dtype));
    return -1;
}

PyObject *we_native_dlpack_capsule(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long handle;
    int versioned;
    we_error error;
    if (!PyArg_ParseTuple(args, "Kp", &handle, &versioned)) {
        return NULL;
    }
    exported *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return PyErr_NoMemory();
    }
    if (we_block_import(handle, &e->block, &error) != WE_OK) {
        free(e);
        return we_native_raise(&error);
    }
    PyObject *capsule = NULL;
    if (versioned) {
        e->dl.versioned = (dl_versioned){.major = 1, .minor = 0, .context = e, .deleter = delete_versioned};
        if (describe(e, &e->dl.versioned.tensor) == 0) {
            capsule = PyCapsule_New(&e->dl.versioned, "dltensor_versioned", drop_versioned);
        }
    } else {
        e->dl.plain = (dl_managed){.context = e, .deleter = delete_plain};
        if (describe(e, &e->dl.plain.tensor) == 0) {
            capsule = PyCapsule_New(&e->dl.plain, "dltensor", drop_plain);
        }
    }
    if (capsule == NULL) {
        free_exported(e);
    }
    return capsule;
}

/* ---- In ---- */

typedef struct {
    PyObject ob_base;
    dl_managed *plain; /* one of the two */
    dl_versioned *versioned;
    char *data;
    Py_ssize_t size;
} Lent;

static const dl_tensor *lent_tensor(const Lent *self) {
    return self->plain ? &self->plain->tensor : &self->versioned->tensor;
}

static void lent_dealloc(PyObject *op) {
    Lent *self = (Lent *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->plain && self->plain->deleter) {
        self->plain->deleter(self->plain);
    }
    if (self->versioned && self->versioned->deleter) {
        self->versioned->deleter(self->versioned);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static int lent_getbuffer(PyObject *op, Py_buffer *buffer, int flags) {
    static char nothing; /* a buffer must point somewhere */
    Lent *self = (Lent *)op;
    bool read_only = self->versioned && self->versioned->flags & READ_ONLY;
    return PyBuffer_FillInfo(buffer, op, self->data ? self->data : &nothing, self->size, read_only, flags);
}

static PyType_Slot lent_slots[] = {
    {Py_tp_doc, "Memory lent through DLPack; gone back when this goes."},
    {Py_tp_dealloc, lent_dealloc},
    {Py_bf_getbuffer, lent_getbuffer},
    {0, NULL},
};
PyType_Spec we_native_lent_spec = {
    .name = "walle_engine._native.Lent",
    .basicsize = sizeof(Lent),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lent_slots,
};

static int take(Lent *self, PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        dl_versioned *managed = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (managed->major != 1) {
            PyErr_Format(PyExc_BufferError, "DLPack version %u is unknown here: ask for version 1",
                         managed->major);
            return -1;
        }
        if (PyCapsule_SetName(capsule, "used_dltensor_versioned") < 0) {
            return -1;
        }
        self->versioned = managed;
        return 0;
    }
    if (!PyCapsule_IsValid(capsule, "dltensor")) {
        PyErr_SetString(PyExc_TypeError, "this is no DLPack capsule, or it was taken already");
        return -1;
    }
    self->plain = PyCapsule_GetPointer(capsule, "dltensor");
    return PyCapsule_SetName(capsule, "used_dltensor");
}

/* Check what was lent and find its type and size. */
static int inspect(Lent *self, const char **dtype) {
    const dl_tensor *t = lent_tensor(self);
    if (t->device_type != CPU) {
        PyErr_Format(PyExc_BufferError, "the tensor is on device %d, not in the CPU's memory: move it",
                     (int)t->device_type);
        return -1;
    }
    *dtype = NULL;
    for (int i = 0; i < TYPE_COUNT; i++) {
        if (TYPES[i].code == t->code && TYPES[i].bits == t->bits && t->lanes == 1) {
            *dtype = we_dtype_name(TYPES[i].dtype);
        }
    }
    if (*dtype == NULL || t->rank < 0 || t->rank > WE_MAX_RANK) {
        PyErr_Format(PyExc_BufferError, "elements of DLPack type (%d, %d bits) or rank %d have no place here",
                     (int)t->code, (int)t->bits, (int)t->rank);
        return -1;
    }
    int64_t dense = 1;
    bool empty = false, strided = false;
    for (int32_t i = t->rank - 1; i >= 0; i--) {
        empty = empty || t->shape[i] == 0;
        strided = strided || (t->strides && t->shape[i] != 1 && t->strides[i] != dense);
        if (t->shape[i] < 0 || (t->shape[i] > 0 && dense > PY_SSIZE_T_MAX / 16 / t->shape[i])) {
            PyErr_SetString(PyExc_BufferError, "the tensor's shape is not one");
            return -1;
        }
        dense *= t->shape[i] ? t->shape[i] : 1;
    }
    if (strided && !empty) {
        PyErr_SetString(PyExc_BufferError, "the tensor is not dense: make it contiguous");
        return -1;
    }
    self->size = empty ? 0 : (Py_ssize_t)dense * t->bits / 8;
    self->data = t->data ? (char *)t->data + t->byte_offset : NULL;
    return 0;
}

PyObject *we_native_dlpack_take(PyObject *module, PyObject *capsule) {
    native_state *state = PyModule_GetState(module);
    const char *dtype;
    Lent *lent = (Lent *)state->lent_type->tp_alloc(state->lent_type, 0);
    if (lent == NULL || take(lent, capsule) < 0 || inspect(lent, &dtype) < 0) {
        Py_XDECREF(lent);
        return NULL;
    }
    const dl_tensor *t = lent_tensor(lent);
    PyObject *shape = PyTuple_New(t->rank);
    for (int32_t i = 0; shape != NULL && i < t->rank; i++) {
        PyObject *dim = PyLong_FromLongLong(t->shape[i]);
        if (dim == NULL) {
            Py_CLEAR(shape);
            break;
        }
        PyTuple_SET_ITEM(shape, i, dim);
    }
    if (shape == NULL) {
        Py_DECREF(lent);
        return NULL;
    }
    return Py_BuildValue("(NsN)", lent, dtype, shape);
}

/* ---- Arrays ---- */

static const struct {
    uint8_t code, bits;
} ARRAY_TYPES[WE_ARRAY_DTYPE_COUNT] = {
    [WE_ARRAY_BOOL] = {6, 8},   [WE_ARRAY_I8] = {0, 8},   [WE_ARRAY_I16] = {0, 16}, [WE_ARRAY_I32] = {0, 32},
    [WE_ARRAY_I64] = {0, 64},   [WE_ARRAY_U8] = {1, 8},   [WE_ARRAY_U16] = {1, 16}, [WE_ARRAY_U32] = {1, 32},
    [WE_ARRAY_U64] = {1, 64},   [WE_ARRAY_F32] = {2, 32}, [WE_ARRAY_F64] = {2, 64}, [WE_ARRAY_C64] = {5, 64},
    [WE_ARRAY_C128] = {5, 128},
};

/* An array that lies in a block of the engine, as a capsule. */
static PyObject *array_capsule(const Array *array, bool versioned, uint64_t flags) {
    const we_array *view = &array->view;
    int64_t size = we_array_dtype_size(view->dtype);
    exported *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return PyErr_NoMemory();
    }
    e->block = we_block_retain(array->block);
    dl_tensor tensor = {.data = view->data,
                        .device_type = CPU,
                        .rank = view->rank,
                        .code = ARRAY_TYPES[view->dtype].code,
                        .bits = ARRAY_TYPES[view->dtype].bits,
                        .lanes = 1,
                        .shape = e->shape,
                        .strides = e->strides};
    for (int axis = 0; axis < view->rank; axis++) {
        e->shape[axis] = view->dims[axis];
        e->strides[axis] = view->strides[axis] / size;
    }
    PyObject *capsule;
    if (versioned) {
        e->dl.versioned = (dl_versioned){
            .major = 1, .context = e, .deleter = delete_versioned, .flags = flags, .tensor = tensor};
        capsule = PyCapsule_New(&e->dl.versioned, "dltensor_versioned", drop_versioned);
    } else {
        e->dl.plain = (dl_managed){.context = e, .deleter = delete_plain, .tensor = tensor};
        capsule = PyCapsule_New(&e->dl.plain, "dltensor", drop_plain);
    }
    if (capsule == NULL) {
        free_exported(e);
    }
    return capsule;
}

/* (self, /, *, stream=None, max_version=None, dl_device=None, copy=None) */
static PyObject *array_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *given[4] = {NULL};
    long major = 0;
    if (we_native_arguments("__dlpack__", names, 0, 0, 0, args, count, kwnames, given) < 0) {
        return NULL;
    }
    if (given[1] != NULL && PyTuple_Check(given[1]) && PyTuple_GET_SIZE(given[1]) > 0) {
        major = PyLong_AsLong(PyTuple_GET_ITEM(given[1], 0));
    }
    if (given[2] != NULL && PyTuple_Check(given[2]) && PyTuple_GET_SIZE(given[2]) > 0 &&
        PyLong_AsLong(PyTuple_GET_ITEM(given[2], 0)) != CPU) {
        PyErr_SetString(PyExc_BufferError, "arrays are in the CPU's memory and lent there alone");
        return NULL;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    /* Lent memory is its lender's, who may need a GIL to take it back. */
    Array *array = (Array *)Py_NewRef(self);
    int64_t size = we_array_dtype_size(array->view.dtype);
    bool copies = given[3] == Py_True || array->block == NULL || (array->readonly && major < 1);
    for (int axis = 0; axis < array->view.rank; axis++) {
        copies = copies || array->view.strides[axis] % size != 0;
    }
    if (copies && given[3] == Py_False) {
        Py_DECREF(array);
        PyErr_SetString(PyExc_BufferError, "this array cannot be lent without a copy");
        return NULL;
    }
    if (copies) {
        Py_SETREF(array, we_native_array_copy(we_native_state(self), array, -1));
        if (array == NULL) {
            return NULL;
        }
    }
    uint64_t flags = (array->readonly ? READ_ONLY : 0) | (copies ? COPIED : 0);
    PyObject *capsule = array_capsule(array, major >= 1, flags);
    Py_DECREF(array);
    return capsule;
}

static PyObject *array_dlpack_device(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("(ii)", CPU, 0);
}

static PyObject *array_to_device(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"device", "stream", NULL};
    PyObject *given[2] = {NULL};
    if (we_native_arguments("to_device", names, 1, 1, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    if (!PyUnicode_Check(given[0]) || PyUnicode_CompareWithASCIIString(given[0], "cpu") != 0) {
        return PyErr_Format(PyExc_ValueError, "there is no device %R: arrays are on 'cpu'", given[0]);
    }
    return Py_NewRef(self);
}

/* A view of what was lent; the buffer of `lent` shows no shape, so the array's is checked here. */
static Array *array_of_lent(native_state *state, Lent *lent) {
    const dl_tensor *t = lent_tensor(lent);
    int dtype = -1;
    for (int code = 0; code < WE_ARRAY_DTYPE_COUNT; code++) {
        if (ARRAY_TYPES[code].code == t->code && ARRAY_TYPES[code].bits == t->bits && t->lanes == 1) {
            dtype = code;
        }
    }
    if (t->device_type != CPU || dtype < 0 || t->rank < 0 || t->rank > WE_MAX_RANK) {
        PyErr_SetString(
            PyExc_BufferError,
            "only numbers in the CPU's memory in up to 8 dims can be an array: move or convert it");
        return NULL;
    }
    lent->data = t->data ? (char *)t->data + t->byte_offset : NULL;
    PyObject *lender = PyMemoryView_FromObject((PyObject *)lent);
    Array *self = lender ? (Array *)state->array_type->tp_alloc(state->array_type, 0) : NULL;
    if (self == NULL) {
        Py_XDECREF(lender);
        return NULL;
    }
    self->lender = lender;
    self->readonly = lent->versioned && lent->versioned->flags & READ_ONLY;
    self->view = (we_array){.dtype = (we_array_dtype)dtype, .rank = t->rank, .data = lent->data};
    int64_t size = we_array_dtype_size(self->view.dtype);
    for (int axis = 0; axis < t->rank; axis++) {
        self->view.dims[axis] = t->shape[axis];
        self->view.strides[axis] = t->strides ? t->strides[axis] * size : 0;
        if (t->shape[axis] < 0) {
            Py_DECREF(self);
            PyErr_SetString(PyExc_BufferError, "the tensor's shape is not one");
            return NULL;
        }
    }
    if (t->strides == NULL) {
        we_native_set_dense(&self->view);
    }
    return self;
}

/* from_dlpack(x, /, *, device=None, copy=None) */
static PyObject *native_from_dlpack(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                    PyObject *kwnames) {
    static const char *const names[] = {"x", "device", "copy", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[3] = {NULL};
    if (we_native_arguments("from_dlpack", names, 1, 1, 1, args, count, kwnames, given) < 0) {
        return NULL;
    }
    PyObject *method = PyObject_GetAttrString(given[0], "__dlpack__");
    PyObject *none = PyTuple_New(0), *keywords = Py_BuildValue("{s:(ii)}", "max_version", 1, 0);
    PyObject *capsule = method && none && keywords ? PyObject_Call(method, none, keywords) : NULL;
    if (capsule == NULL && method != NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear(); /* an older producer, which knows no versions */
        capsule = PyObject_CallNoArgs(method);
    }
    Py_XDECREF(method);
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    Lent *lent = capsule ? (Lent *)state->lent_type->tp_alloc(state->lent_type, 0) : NULL;
    Array *self = NULL;
    if (lent != NULL && take(lent, capsule) == 0) {
        self = array_of_lent(state, lent);
    }
    Py_XDECREF(lent);
    Py_XDECREF(capsule);
    if (self != NULL && given[2] == Py_True) {
        Py_SETREF(self, we_native_array_copy(state, self, -1));
    }
    return (PyObject *)self;
}

PyMethodDef we_native_dlpack_functions[] = {
    {"from_dlpack", (PyCFunction)(void (*)(void))native_from_dlpack, METH_FASTCALL | METH_KEYWORDS,
     "from_dlpack($module, x, /, *, device=None, copy=None)\n--\n\nAn array over memory lent through "
     "DLPack."},
    {0},
};
PyMethodDef we_native_dlpack_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))array_dlpack, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"__dlpack_device__", array_dlpack_device, METH_NOARGS, NULL},
    {"to_device", (PyCFunction)(void (*)(void))array_to_device, METH_FASTCALL | METH_KEYWORDS, NULL},
    {0},
};
