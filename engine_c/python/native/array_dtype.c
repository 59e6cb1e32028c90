/* Dtypes of arrays: one object each, promotion. */
#include "array.h" /* first, as Python.h must be */

#include <string.h>

int we_native_dtypes_add(PyObject *module, native_state *state) {
    PyObject *by_name = PyDict_New();
    if (by_name == NULL || PyModule_Add(module, "dtypes", by_name) < 0) { /* takes the reference */
        return -1;
    }
    for (int code = 0; code < WE_ARRAY_DTYPE_COUNT; code++) {
        DType *dtype = (DType *)state->dtype_type->tp_alloc(state->dtype_type, 0);
        if (dtype == NULL) {
            return -1;
        }
        dtype->code = (we_array_dtype)code;
        state->dtypes[code] = (PyObject *)dtype;
        if (PyDict_SetItemString(by_name, we_array_dtype_name((we_array_dtype)code), (PyObject *)dtype) < 0) {
            return -1;
        }
    }
    return 0;
}

PyObject *we_native_dtype_object(native_state *state, we_array_dtype dtype) {
    return Py_NewRef(state->dtypes[dtype]);
}

static int dtype_of_name(const char *name) {
    for (int code = 0; code < WE_ARRAY_DTYPE_COUNT; code++) {
        if (strcmp(name, we_array_dtype_name((we_array_dtype)code)) == 0) {
            return code;
        }
    }
    return -1;
}

static int dtype_of_type(PyObject *type) {
    return type == (PyObject *)&PyBool_Type      ? WE_ARRAY_BOOL
           : type == (PyObject *)&PyLong_Type    ? WE_ARRAY_I64
           : type == (PyObject *)&PyFloat_Type   ? WE_ARRAY_F64
           : type == (PyObject *)&PyComplex_Type ? WE_ARRAY_C128
                                                 : -1;
}

int we_native_dtype_parse(native_state *state, PyObject *value, int fallback) {
    if (value == NULL || value == Py_None) {
        return fallback;
    }
    if (Py_IS_TYPE(value, state->dtype_type)) {
        return (int)((DType *)value)->code;
    }
    int found = dtype_of_type(value);
    PyObject *name = NULL;
    if (found < 0 && !PyType_Check(value)) {
        name = PyUnicode_Check(value) ? Py_NewRef(value) : PyObject_GetAttrString(value, "name");
    }
    if (name != NULL && PyUnicode_Check(name)) {
        const char *text = PyUnicode_AsUTF8(name);
        found = text ? dtype_of_name(text) : -1;
    }
    Py_XDECREF(name);
    PyErr_Clear();
    if (found < 0) {
        PyErr_Format(PyExc_TypeError, "%R is no dtype: use one of the module's, such as float32, or its name",
                     value);
    }
    return found;
}

/* ---- Promotion ---- */

static int rank_of_kind(we_array_dtype dtype) {
    switch (we_array_dtype_kind(dtype)) {
    case 'b':
        return 0;
    case 'f':
        return 2;
    case 'c':
        return 3;
    default:
        return 1;
    }
}

static we_array_dtype larger(we_array_dtype a, we_array_dtype b) {
    return we_array_dtype_size(a) >= we_array_dtype_size(b) ? a : b;
}

/* Signed and unsigned: a signed type that holds both, float64 where there is none. */
static we_array_dtype mixed(we_array_dtype a, we_array_dtype b) {
    we_array_dtype whole = we_array_dtype_kind(a) == 'u' ? a : b, sign = whole == a ? b : a;
    if (whole == WE_ARRAY_U64) {
        return WE_ARRAY_F64;
    }
    we_array_dtype holds = (we_array_dtype)(WE_ARRAY_I16 + (whole - WE_ARRAY_U8));
    return larger(sign, holds);
}

/* Source: the standard's table within a kind and for mixed integers; NumPy's rules between kinds, which the
 * standard leaves open: integers of up to 16 bits fit float32, others need float64. */
we_array_dtype we_native_dtype_promote(we_array_dtype a, we_array_dtype b) {
    int kind_a = rank_of_kind(a), kind_b = rank_of_kind(b);
    if (a == b || kind_a == 0) {
        return b;
    }
    if (kind_b == 0) {
        return a;
    }
    if (kind_a == kind_b) {
        bool same_sign = we_array_dtype_kind(a) == we_array_dtype_kind(b);
        return same_sign ? larger(a, b) : mixed(a, b);
    }
    we_array_dtype high = kind_a > kind_b ? a : b, low = high == a ? b : a;
    bool narrow = high == WE_ARRAY_F32 || high == WE_ARRAY_C64;
    bool fits = rank_of_kind(low) == 1 ? we_array_dtype_size(low) <= 2 : low == WE_ARRAY_F32;
    return !narrow || fits ? high : high == WE_ARRAY_F32 ? WE_ARRAY_F64 : WE_ARRAY_C128;
}

we_array_dtype we_native_dtype_beside(we_array_dtype dtype, PyObject *number) {
    int kind = rank_of_kind(dtype);
    if (PyBool_Check(number)) {
        return dtype;
    }
    if (PyLong_Check(number)) {
        return kind == 0 ? WE_ARRAY_I64 : dtype;
    }
    if (PyFloat_Check(number)) {
        return kind < 2 ? WE_ARRAY_F64 : dtype;
    }
    return dtype == WE_ARRAY_F32 || dtype == WE_ARRAY_C64 ? WE_ARRAY_C64 : WE_ARRAY_C128;
}

bool we_native_dtype_same_kind(we_array_dtype from, we_array_dtype to) {
    bool loses_sign = we_array_dtype_kind(from) == 'i' && we_array_dtype_kind(to) == 'u';
    return rank_of_kind(from) <= rank_of_kind(to) && !loses_sign;
}

/* ---- The objects ---- */

static PyObject *dtype_repr(PyObject *self) {
    return PyUnicode_FromString(we_array_dtype_name(((DType *)self)->code));
}

static PyObject *dtype_get_name(PyObject *self, void *Py_UNUSED(closure)) {
    return dtype_repr(self);
}

static PyObject *dtype_get_kind(PyObject *self, void *Py_UNUSED(closure)) {
    return PyUnicode_FromFormat("%c", we_array_dtype_kind(((DType *)self)->code));
}

static PyObject *dtype_get_itemsize(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(we_array_dtype_size(((DType *)self)->code));
}

/* Equal to its name, too; hence the hash of the name. */
static Py_hash_t dtype_hash(PyObject *self) {
    PyObject *name = dtype_repr(self);
    Py_hash_t hash = name ? PyObject_Hash(name) : -1;
    Py_XDECREF(name);
    return hash;
}

static PyObject *dtype_richcompare(PyObject *self, PyObject *other, int op) {
    if (op != Py_EQ && op != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool equal = self == other;
    if (!equal && PyUnicode_Check(other)) {
        equal = PyUnicode_CompareWithASCIIString(other, we_array_dtype_name(((DType *)self)->code)) == 0;
    }
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static PyGetSetDef dtype_getset[] = {
    {"name", dtype_get_name, NULL, "Name, such as float32.", NULL},
    {"kind", dtype_get_kind, NULL, "b, i, u, f or c.", NULL},
    {"itemsize", dtype_get_itemsize, NULL, "Bytes of an element.", NULL},
    {0},
};
static PyType_Slot dtype_slots[] = {
    {Py_tp_doc, "The type of an array's elements; there is one object of each."},
    {Py_tp_repr, dtype_repr},
    {Py_tp_hash, dtype_hash},
    {Py_tp_richcompare, dtype_richcompare},
    {Py_tp_getset, dtype_getset},
    {0, NULL},
};
PyType_Spec we_native_dtype_spec = {
    .name = "walle_engine._native.DType",
    .basicsize = sizeof(DType),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = dtype_slots,
};
