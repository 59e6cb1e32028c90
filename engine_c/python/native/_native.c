/* walle_engine._native: the engine for isolated interpreters.
 *
 * Invariants:
 *  - Multi-phase init, heap types, one module state per interpreter. What is static is either constant or the
 *    model registry and a flag, which all interpreters share on purpose, guarded by a mutex and atomic.
 *  - Tensor memory belongs to the engine's reference-counted blocks; a Tensor is one reference to a block.
 *  - A buffer that Python code lends is read only between PyObject_GetBuffer and PyBuffer_Release.
 *  - The GIL is released round the calls that load, prepare or run a model, and only there.
 *  - Errors are walle_shared.errors', imported when first needed inside the interpreter that raises.
 */
#include "array.h" /* first, as Python.h must be */

#include <stdatomic.h>
#include <string.h>

native_state *we_native_state(PyObject *self) {
    return PyType_GetModuleState(Py_TYPE(self));
}

static PyObject *lossy_text(const char *text) {
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

PyObject *we_native_raise(const we_error *error) {
    PyObject *module = PyImport_ImportModule("walle_engine.errors");
    if (module == NULL) {
        return NULL;
    }
    /* A slot cuts long text anywhere, also inside a character: hence "replace". */
    PyObject *exception =
        PyObject_CallMethod(module, "error_for", "sNNN", we_status_name(error->status),
                            lossy_text(error->message), lossy_text(error->op), lossy_text(error->node));
    Py_DECREF(module);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

static PyObject *native_live_blocks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromLongLong(we_live_blocks());
}

static PyObject *native_isa(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    const char *name;
    we_error error;
    if (we_isa_current(&name, &error) != WE_OK) {
        return we_native_raise(&error);
    }
    return PyUnicode_FromString(name);
}

/* ---- What the cost model believes ---- */

static PyObject *native_parameters(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *result = PyList_New(0);
    for (size_t i = 0; result != NULL && i < we_parameter_count(); i++) {
        we_parameter p;
        we_error error;
        if (we_parameter_get(i, &p, &error) != WE_OK) {
            Py_DECREF(result);
            return we_native_raise(&error);
        }
        PyObject *item = Py_BuildValue("sdds", p.name, p.value, p.standard, p.meaning);
        if (item == NULL || PyList_Append(result, item) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(item);
    }
    return result;
}

static PyObject *native_set_parameter(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *name;
    double value;
    we_error error;
    if (!PyArg_ParseTuple(args, "sd:set_parameter", &name, &value)) {
        return NULL;
    }
    return we_parameter_set(name, value, &error) == WE_OK ? Py_NewRef(Py_None) : we_native_raise(&error);
}

static PyObject *native_parameter_exists(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *name;
    if (!PyArg_ParseTuple(args, "s:parameter_exists", &name)) {
        return NULL;
    }
    return PyBool_FromLong(we_parameter_exists(name));
}

static PyObject *native_reset_parameters(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    we_parameters_reset();
    Py_RETURN_NONE;
}

static PyObject *native_calibrate(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_calibrate(NULL, NULL, &error);
    Py_END_ALLOW_THREADS;
    return status == WE_OK ? Py_NewRef(Py_None) : we_native_raise(&error);
}

/* ---- What measuring sessions found ---- */

static void list_measured(void *context, const void *key, size_t size, const char *text) {
    PyObject *list = context;
    PyObject *pair = PyErr_Occurred() ? NULL : Py_BuildValue("y#s", key, (Py_ssize_t)size, text);
    if (pair != NULL) {
        PyList_Append(list, pair); /* an error is seen at the end */
        Py_DECREF(pair);
    }
}

static PyObject *native_measured(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *list = PyList_New(0);
    if (list != NULL) {
        we_measured_each(list_measured, list);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *native_measured_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromUnsignedLongLong(we_measured_count());
}

static PyObject *native_add_measured(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer key;
    const char *text;
    we_error error;
    if (!PyArg_ParseTuple(args, "y*s:add_measured", &key, &text)) {
        return NULL;
    }
    we_status status = we_measured_add(key.buf, (size_t)key.len, text, &error);
    PyBuffer_Release(&key);
    return status == WE_OK ? Py_NewRef(Py_None) : we_native_raise(&error);
}

static PyObject *native_forget_measured(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    we_measured_forget();
    Py_RETURN_NONE;
}

/* The process's, as the engine's parameters are. */
static atomic_flag asked_first = ATOMIC_FLAG_INIT;

static PyObject *native_is_first_session(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(!atomic_flag_test_and_set(&asked_first));
}

/* Methods that other files than the type's have. */
static int add_methods(PyTypeObject *type, PyMethodDef *methods) {
    for (; methods->ml_name != NULL; methods++) {
        PyObject *method = PyDescr_NewMethod(type, methods);
        int result = method ? PyObject_SetAttrString((PyObject *)type, methods->ml_name, method) : -1;
        Py_XDECREF(method);
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

/* The container's extension lends the functions of its quota; neither knows the other but for this name. */
static PyObject *native_set_memory_account(PyObject *Py_UNUSED(module), PyObject *capsule) {
    const we_memory_account *account = PyCapsule_GetPointer(capsule, "walle.memory_account");
    if (account == NULL) {
        return NULL;
    }
    we_memory_set_account(account);
    Py_RETURN_NONE;
}

static int native_exec(PyObject *module) {
    native_state *state = PyModule_GetState(module);
    struct {
        PyType_Spec *spec;
        PyTypeObject **slot;
    } types[] = {
        {&we_native_tensor_spec, &state->tensor_type},   {&we_native_model_spec, &state->model_type},
        {&we_native_session_spec, &state->session_type}, {&we_native_lent_spec, &state->lent_type},
        {&we_native_array_spec, &state->array_type},     {&we_native_dtype_spec, &state->dtype_type},
        {&we_native_random_spec, &state->random_type},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        *types[i].slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, types[i].spec, NULL);
        if (*types[i].slot == NULL || PyModule_AddType(module, *types[i].slot) < 0) {
            return -1;
        }
    }
    PyMethodDef *tables[] = {we_native_array_functions,  we_native_elementwise_functions,
                             we_native_reduce_functions, we_native_shape_functions,
                             we_native_index_functions,  we_native_product_functions,
                             we_native_dlpack_functions, we_native_numeric_functions};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (PyModule_AddFunctions(module, tables[i]) < 0) {
            return -1;
        }
    }
    if (add_methods(state->array_type, we_native_reduce_methods) < 0 ||
        add_methods(state->array_type, we_native_shape_methods) < 0 ||
        add_methods(state->array_type, we_native_dlpack_methods) < 0) {
        return -1;
    }
    state->array_type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    return we_native_dtypes_add(module, state);
}

static int native_traverse(PyObject *module, visitproc visit, void *arg) {
    native_state *state = PyModule_GetState(module);
    Py_VISIT(state->tensor_type);
    Py_VISIT(state->model_type);
    Py_VISIT(state->session_type);
    Py_VISIT(state->lent_type);
    Py_VISIT(state->array_type);
    Py_VISIT(state->dtype_type);
    Py_VISIT(state->random_type);
    for (int i = 0; i < WE_ARRAY_DTYPE_COUNT; i++) {
        Py_VISIT(state->dtypes[i]);
    }
    Py_VISIT(state->array_namespace);
    return 0;
}

static int native_clear(PyObject *module) {
    native_state *state = PyModule_GetState(module);
    Py_CLEAR(state->tensor_type);
    Py_CLEAR(state->model_type);
    Py_CLEAR(state->session_type);
    Py_CLEAR(state->lent_type);
    Py_CLEAR(state->array_type);
    Py_CLEAR(state->dtype_type);
    Py_CLEAR(state->random_type);
    for (int i = 0; i < WE_ARRAY_DTYPE_COUNT; i++) {
        Py_CLEAR(state->dtypes[i]);
    }
    Py_CLEAR(state->array_namespace);
    return 0;
}

static void native_free(void *module) {
    native_clear(module);
}

static PyMethodDef native_functions[] = {
    {"live_blocks", native_live_blocks, METH_NOARGS,
     "Return the number of tensor blocks alive in the process."},
    {"isa", native_isa, METH_NOARGS, "Return the best instruction set in use."},
    {"parameters", native_parameters, METH_NOARGS,
     "Return (name, value, standard value, meaning) of all that the cost model believes."},
    {"set_parameter", native_set_parameter, METH_VARARGS,
     "Let the process believe another value: set_parameter(name, value)."},
    {"parameter_exists", native_parameter_exists, METH_VARARGS, "Whether set_parameter takes that name."},
    {"reset_parameters", native_reset_parameters, METH_NOARGS, "Go back to the standard values."},
    {"calibrate", native_calibrate, METH_NOARGS, "Measure the parameters here."},
    {"measured", native_measured, METH_NOARGS,
     "Return (key, text) of all that measuring sessions found, the oldest first."},
    {"measured_count", native_measured_count, METH_NOARGS,
     "Return how many nodes were measured since the process began."},
    {"add_measured", native_add_measured, METH_VARARGS,
     "Know what another process measured: add_measured(key, text)."},
    {"forget_measured", native_forget_measured, METH_NOARGS, "Know no measurements."},
    {"is_first_session", native_is_first_session, METH_NOARGS,
     "Return True the first time the process asks, False ever after."},
    {"set_memory_account", native_set_memory_account, METH_O,
     "Let the account in a capsule pay for all memory the engine takes in this process."},
    {"dlpack_capsule", we_native_dlpack_capsule, METH_VARARGS,
     "Return a DLPack capsule of an exported block: dlpack_capsule(handle, versioned)."},
    {"run_buffers", (PyCFunction)(void (*)(void))we_native_run_buffers, METH_FASTCALL,
     "Run the session at an address on a dict of buffers; None unless all are dense and plain."},
    {"imaging", (PyCFunction)(void (*)(void))we_native_imaging, METH_FASTCALL,
     "Run an operation on images: imaging(operation, inputs, outputs, numbers, threads)."},
    {"image_info", we_native_image_info, METH_O,
     "Return the height, width, channels (0: no axis for them), element type and shape of an image."},
    {"imaging_names", we_native_imaging_names, METH_NOARGS, "Return the names of the operations on images."},
    {"contours", we_native_contours, METH_VARARGS,
     "Find contours: contours(image, mode, method, x, y) to points and hierarchy."},
    {"dlpack_take", we_native_dlpack_take, METH_O,
     "Take what a DLPack capsule lends: its bytes as a buffer, dtype and shape."},
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
    .m_size = sizeof(native_state),
    .m_methods = native_functions,
    .m_slots = native_slots,
    .m_traverse = native_traverse,
    .m_clear = native_clear,
    .m_free = native_free,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&native_module);
}
