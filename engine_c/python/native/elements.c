/* Between Python numbers, nested sequences of them, buffer formats, and elements in memory. */
#include "native.h" /* first, as Python.h must be */

#include <string.h>

static const char dtype_kinds[] = {
#define WE_DTYPE_ROW(name, size, kind, format) [WE_##name] = kind,
#include "walle/dtype.inc"
#undef WE_DTYPE_ROW
};

/* Types that only store, a byte per element. */
static bool stores_bits(we_dtype dtype) {
    return dtype != WE_U8 && strcmp(we_dtype_format(dtype), "B") == 0;
}

bool we_native_shows_as(we_dtype dtype, int shown) {
    return (dtype == WE_BF16 && shown == WE_U16) || (stores_bits(dtype) && shown == WE_U8);
}

int we_native_dtype_of_format(const char *format, Py_ssize_t itemsize) {
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
        if (dtype != WE_BF16 && !stores_bits(dtype) && dtype_kinds[dtype] == kind &&
            (Py_ssize_t)we_dtype_size(dtype) == itemsize) {
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

PyObject *we_native_element_get(we_dtype dtype, const void *from) {
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
        const char *text;
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
    case WE_STRING:
        return PyUnicode_FromString(v.text ? v.text : "");
    default: /* types that only store show their bits */
        return PyLong_FromLong(v.u8);
    }
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
/* Store a copy of the text, which the caller frees: a sequence may make its items anew and drop them. */
static int element_set_text(void *to, PyObject *text) {
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "expected a text, found %.100s", Py_TYPE(text)->tp_name);
        return -1;
    }
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &length);
    if (utf8 == NULL) {
        return -1;
    }
    if (strlen(utf8) != (size_t)length) {
        PyErr_SetString(PyExc_ValueError, "a text must not hold NUL characters");
        return -1;
    }
    char *copy = PyMem_Malloc((size_t)length + 1);
    if (copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(copy, utf8, (size_t)length + 1);
    memcpy(to, &copy, sizeof copy);
    return 0;
}

static int element_set(we_dtype dtype, void *to, PyObject *number) {
    if (dtype == WE_STRING) {
        return element_set_text(to, number);
    }
    if (stores_bits(dtype)) {
        dtype = WE_U8;
    }
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

/* Text and bytes are sequences too, but never of numbers we want. */
static bool is_number_sequence(PyObject *object) {
    return PySequence_Check(object) && !PyUnicode_Check(object) && !PyObject_CheckBuffer(object);
}

int we_native_nested_shape(PyObject *data, int64_t *dims) {
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

int we_native_nested_fill(PyObject *data, we_dtype dtype, const int64_t *dims, int rank, char **to) {
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
        result = we_native_nested_fill(item, dtype, dims + 1, rank - 1, to);
        Py_DECREF(item);
    }
    Py_DECREF(items);
    return result;
}

int we_native_texts_fill(we_block *block, PyObject *data, const int64_t *dims, int rank) {
    size_t count = we_block_nbytes(block) / sizeof(char *);
    char **texts = PyMem_Calloc(count + 1, sizeof *texts);
    if (texts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    char *to = (char *)texts;
    we_error error;
    int result = we_native_nested_fill(data, WE_STRING, dims, rank, &to);
    if (result == 0 && we_block_set_texts(block, (const char *const *)texts, &error) != WE_OK) {
        we_native_raise(&error);
        result = -1;
    }
    for (size_t i = 0; i < count; i++) {
        PyMem_Free(texts[i]);
    }
    PyMem_Free(texts);
    return result;
}
