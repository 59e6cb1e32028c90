/* Model: a mapped file, shared through the registry. Session: a model prepared for running. */
#include "native.h" /* first, as Python.h must be */

#include <string.h>

typedef struct {
    PyObject ob_base;
    shared_model *shared;
} Model;

static we_model *model_of(PyObject *self) {
    return we_native_registry_model(((Model *)self)->shared);
}

static PyObject *model_of_shared(PyTypeObject *type, shared_model *shared) {
    Model *self = (Model *)type->tp_alloc(type, 0);
    if (self == NULL) {
        we_native_registry_close(shared);
        return NULL;
    }
    self->shared = shared;
    return (PyObject *)self;
}

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
    status = we_native_registry_open(PyBytes_AS_STRING(path), &shared, &error);
    Py_END_ALLOW_THREADS;
    Py_DECREF(path);
    if (status != WE_OK) {
        return we_native_raise(&error);
    }
    return model_of_shared(type, shared);
}

static PyObject *model_from_bytes(PyObject *type, PyObject *bytes) {
    Py_buffer view;
    if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    shared_model *shared;
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_native_registry_take(view.buf, (size_t)view.len, &shared, &error);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&view);
    return status == WE_OK ? model_of_shared((PyTypeObject *)type, shared) : we_native_raise(&error);
}

static void model_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    we_native_registry_close(((Model *)self)->shared);
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
            return we_native_raise(&error);
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
    const we_model *model = model_of(self);
    return io_tuple(model, we_model_input_count(model), we_model_input);
}

static PyObject *model_get_outputs(PyObject *self, void *Py_UNUSED(closure)) {
    const we_model *model = model_of(self);
    return io_tuple(model, we_model_output_count(model), we_model_output);
}

typedef struct {
    PyObject ob_base;
    we_session *session;
    PyObject *model; /* the Model; keeps the registry entry and so the input and output names alive */
} Session;

/* What was measured of this machine, if it was, before the process's first session. An interpreter that may
 * not even import must have its sessions all the same. */
static void load_calibration(void) {
    PyObject *module = PyImport_ImportModule("walle_engine.calibration");
    PyObject *done = module ? PyObject_CallMethod(module, "load_once", NULL) : NULL;
    if (done == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(done);
    Py_XDECREF(module);
}

static PyObject *model_session(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"threads", "precision", NULL};
    we_session_options options = {.threads = 1};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$is:session", names, &options.threads,
                                     &options.precision)) {
        return NULL;
    }
    load_calibration();
    PyTypeObject *type = we_native_state(self)->session_type;
    Session *session = (Session *)type->tp_alloc(type, 0);
    if (session == NULL) {
        return NULL;
    }
    session->model = Py_NewRef(self);
    we_model *model = model_of(self);
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_session_new(model, &options, &session->session, &error);
    Py_END_ALLOW_THREADS;
    if (status != WE_OK) {
        session->session = NULL;
        Py_DECREF(session);
        return we_native_raise(&error);
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
    int dtype = we_native_dtype_of_format(buffer->format, buffer->itemsize);
    if (dtype < 0 || buffer->ndim > WE_MAX_RANK) {
        PyErr_Format(PyExc_TypeError, "a buffer of format '%s' with %d dims is not a tensor",
                     buffer->format ? buffer->format : "B", buffer->ndim);
        return -1;
    }
    *view = (we_view){
        we_native_shows_as(wanted, dtype) ? wanted : (we_dtype)dtype, buffer->ndim, {0}, buffer->buf};
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
        we_native_raise(&error);
        return -1;
    }
    *view = we_block_view(held->block);
    return buffer->len == 0 ? 0 : PyBuffer_ToContiguous(view->data, buffer, buffer->len, 'C');
}

/* Nested sequences of numbers, or of texts. */
static int bind_sequence(we_dtype wanted, PyObject *value, lease *held, we_view *view) {
    int64_t dims[WE_MAX_RANK];
    int rank = we_native_nested_shape(value, dims);
    if (rank < 0) {
        return -1;
    }
    we_error error;
    if (we_block_new(wanted, rank, dims, &held->block, &error) != WE_OK) {
        held->block = NULL;
        we_native_raise(&error);
        return -1;
    }
    *view = we_block_view(held->block);
    if (wanted == WE_STRING) {
        return we_native_texts_fill(held->block, value, dims, rank);
    }
    char *to = view->data;
    return we_native_nested_fill(value, wanted, dims, rank, &to);
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
    if (Py_IS_TYPE(value, we_native_state((PyObject *)self)->tensor_type)) {
        held->block = we_block_retain(((Tensor *)value)->block);
        binding->view = ((Tensor *)value)->view;
        return 0;
    }
    we_dtype wanted = wanted_dtype(model_of(self->model), binding->name);
    if (wanted != WE_STRING && PyObject_CheckBuffer(value)) {
        return bind_buffer(wanted, value, held, &binding->view);
    }
    return bind_sequence(wanted, value, held, &binding->view);
}

static PyObject *outputs_dict(Session *self, const we_model *model, we_block **outputs, size_t count) {
    PyTypeObject *tensor_type = we_native_state((PyObject *)self)->tensor_type;
    PyObject *result = PyDict_New();
    for (size_t i = 0; i < count; i++) {
        we_io_info info;
        we_error error;
        PyObject *tensor =
            we_native_tensor_wrap(tensor_type, outputs[i]); /* takes the reference in any case */
        if (result == NULL) {
            Py_XDECREF(tensor);
            continue;
        }
        we_status status = we_model_output(model, i, &info, &error);
        if (status != WE_OK) {
            we_native_raise(&error);
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
    const we_model *model = model_of(self->model);
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
        status == WE_OK ? outputs_dict(self, model, outputs, output_count) : we_native_raise(&error);
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

static PyObject *session_profile_start(PyObject *op, PyObject *Py_UNUSED(unused)) {
    we_error error;
    we_status status = we_session_profile_start(((Session *)op)->session, NULL, NULL, &error);
    return status == WE_OK ? Py_NewRef(Py_None) : we_native_raise(&error);
}

static PyObject *profile_step(we_session *session, size_t index) {
    we_profile_event event;
    we_error error;
    if (we_session_profile_event(session, index, &event, &error) != WE_OK) {
        return we_native_raise(&error);
    }
    return Py_BuildValue("(ssd)", event.op, event.candidate, event.end_s - event.start_s);
}

static PyObject *session_profile_stop(PyObject *op, PyObject *Py_UNUSED(unused)) {
    we_session *session = ((Session *)op)->session;
    int64_t dropped;
    we_session_profile_stop(session);
    size_t count = we_session_profile_count(session, &dropped);
    PyObject *steps = PyList_New(0);
    for (size_t i = 0; steps != NULL && i < count; i++) {
        PyObject *step = profile_step(session, i);
        if (step == NULL || PyList_Append(steps, step) < 0) {
            Py_CLEAR(steps);
        }
        Py_XDECREF(step);
    }
    return steps;
}

static PyMethodDef session_methods[] = {
    {"profile_start", session_profile_start, METH_NOARGS,
     "profile_start($self, /)\n--\n\nRecord what each step of the runs from now on takes."},
    {"profile_stop", session_profile_stop, METH_NOARGS,
     "profile_stop($self, /)\n--\n\nStop; returns (operator, candidate, seconds) of each step."},
    {"run", session_run, METH_O, "run($self, inputs, /)\n--\n\nRun once; returns the outputs by name."},
    {0},
};
static PyType_Slot session_slots[] = {
    {Py_tp_doc, "A model prepared for running; made by Model.session()."},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_methods, session_methods},
    {0, NULL},
};
PyType_Spec we_native_session_spec = {
    .name = "walle_engine._native.Session",
    .basicsize = sizeof(Session),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = session_slots,
};

static PyMethodDef model_methods[] = {
    {"session", (PyCFunction)(void (*)(void))model_session, METH_VARARGS | METH_KEYWORDS,
     "session($self, /, *, threads=1, precision='high')\n--\n\nPrepare the model for running."},
    {"from_bytes", model_from_bytes, METH_O | METH_CLASS,
     "from_bytes($type, data, /)\n--\n\nTake what a .wmodel file holds, copied and verified."},
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
PyType_Spec we_native_model_spec = {
    .name = "walle_engine._native.Model",
    .basicsize = sizeof(Model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};
