/* Runs of a session that the cffi binding made, for inputs that are plain buffers: what a call costs there in
 * Python objects, an inference of ten microseconds would feel. */
#include "native.h" /* first, as Python.h must be */

enum {
    MOST_INPUTS = 16, /* on the stack; with more the caller has work enough to go the long way */
};

/* True where the value is a dense buffer of a type the engine has; it is held then. */
static bool lend(PyObject *value, Py_buffer *buffer, we_view *view) {
    if (!PyObject_CheckBuffer(value) ||
        PyObject_GetBuffer(value, buffer, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
        PyErr_Clear();
        return false;
    }
    int dtype = we_native_dtype_of_format(buffer->format, buffer->itemsize);
    if (dtype < 0 || buffer->ndim > WE_MAX_RANK ||
        (uintptr_t)buffer->buf % (uintptr_t)buffer->itemsize != 0) {
        PyBuffer_Release(buffer);
        return false;
    }
    *view = (we_view){.dtype = (we_dtype)dtype, .rank = buffer->ndim, .data = buffer->buf};
    for (int axis = 0; axis < buffer->ndim; axis++) {
        view->dims[axis] = buffer->shape[axis];
    }
    return true;
}

static PyObject *tensor_tuple(PyObject *module, we_block **blocks, Py_ssize_t count) {
    native_state *state = PyModule_GetState(module);
    PyObject *result = PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *tensor = we_native_tensor_wrap(state->tensor_type, blocks[i]); /* takes the reference */
        if (result != NULL && tensor != NULL) {
            PyTuple_SET_ITEM(result, i, tensor);
        } else {
            Py_CLEAR(result);
            Py_XDECREF(tensor);
        }
    }
    return result;
}

static PyObject *run_bound(PyObject *module, we_session *session, const we_binding *bindings,
                           Py_ssize_t inputs, Py_ssize_t outputs) {
    we_block **blocks = PyMem_Calloc((size_t)outputs + 1, sizeof *blocks);
    if (blocks == NULL) {
        return PyErr_NoMemory();
    }
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_session_run(session, bindings, (size_t)inputs, blocks, &error);
    Py_END_ALLOW_THREADS;
    PyObject *result = status == WE_OK ? tensor_tuple(module, blocks, outputs) : we_native_raise(&error);
    PyMem_Free(blocks);
    return result;
}

/* Hold and bind every input; the number of those held, fewer than the dict has where one is not plain.
 * Buffers may run code of their own, so the names are held as well. */
static Py_ssize_t bind(PyObject *inputs, PyObject **names, Py_buffer *buffers, we_binding *bindings) {
    PyObject *name, *value;
    Py_ssize_t bound = 0, at = 0;
    while (bound < MOST_INPUTS && PyDict_Next(inputs, &at, &name, &value)) {
        const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
        names[bound] = Py_NewRef(name);
        Py_INCREF(value);
        bool plain = text != NULL && lend(value, &buffers[bound], &bindings[bound].view);
        Py_DECREF(value);
        if (!plain) {
            Py_DECREF(name);
            break;
        }
        bindings[bound++].name = text;
    }
    PyErr_Clear(); /* of what is not plain, the long way says what is wrong */
    return bound;
}

PyObject *we_native_run_buffers(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError,
                        "run_buffers takes a session's address, a dict and a number of outputs");
        return NULL;
    }
    we_session *session = PyLong_AsVoidPtr(args[0]);
    Py_ssize_t outputs = PyLong_AsSsize_t(args[2]);
    if (session == NULL || outputs < 0) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    PyObject *names[MOST_INPUTS];
    Py_buffer buffers[MOST_INPUTS];
    we_binding bindings[MOST_INPUTS];
    Py_ssize_t bound = bind(args[1], names, buffers, bindings);
    PyObject *result = bound == PyDict_GET_SIZE(args[1])
                           ? run_bound(module, session, bindings, bound, outputs)
                           : Py_NewRef(Py_None);
    while (bound-- > 0) {
        PyBuffer_Release(&buffers[bound]);
        Py_DECREF(names[bound]);
    }
    return result;
}
