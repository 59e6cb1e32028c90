/* Between Python numbers, nested sequences of them, and elements of arrays. */
#include "array.h" /* first, as Python.h must be */

#include <complex.h>
#include <string.h>

bool we_native_is_number(PyObject *value) {
    return PyFloat_Check(value) || PyLong_Check(value) || PyComplex_Check(value);
}

we_array_dtype we_native_number_dtype(PyObject *value) {
    return PyBool_Check(value)      ? WE_ARRAY_BOOL
           : PyLong_Check(value)    ? WE_ARRAY_I64
           : PyComplex_Check(value) ? WE_ARRAY_C128
                                    : WE_ARRAY_F64;
}

static int store_integer(PyObject *value, we_array_dtype dtype, void *to) {
    bool sign = we_array_dtype_kind(dtype) == 'i';
    int spare = 64 - 8 * (int)we_array_dtype_size(dtype), overflow = 0;
    uint64_t bits;
    bool fits;
    PyObject *index = PyNumber_Index(value);
    if (index == NULL) {
        return -1;
    }
    if (sign) {
        long long number = PyLong_AsLongLongAndOverflow(index, &overflow);
        fits = !overflow && number <= INT64_MAX >> spare && number >= INT64_MIN >> spare;
        bits = (uint64_t)number;
    } else {
        bits = PyLong_AsUnsignedLongLong(index);
        fits = !(bits == UINT64_MAX && PyErr_Occurred()) && bits <= UINT64_MAX >> spare;
        PyErr_Clear();
    }
    Py_DECREF(index);
    if (!fits) {
        PyErr_Format(PyExc_OverflowError, "%S does not fit %s", value, we_array_dtype_name(dtype));
        return -1;
    }
    memcpy(to, &bits, (size_t)we_array_dtype_size(dtype)); /* little-endian: the low bytes come first */
    return 0;
}

static int store_float(PyObject *value, we_array_dtype dtype, void *to) {
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (dtype == WE_ARRAY_F32) {
        *(float *)to = (float)number;
    } else {
        *(double *)to = number;
    }
    return 0;
}

static int store_complex(PyObject *value, we_array_dtype dtype, void *to) {
    Py_complex number = PyComplex_AsCComplex(value);
    if (number.real == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    double parts[2] = {number.real, number.imag};
    if (dtype == WE_ARRAY_C64) {
        float narrow[2] = {(float)parts[0], (float)parts[1]};
        memcpy(to, narrow, sizeof narrow);
    } else {
        memcpy(to, parts, sizeof parts);
    }
    return 0;
}

int we_native_number_store(PyObject *value, we_array_dtype dtype, void *to) {
    switch (we_array_dtype_kind(dtype)) {
    case 'b': {
        int truth = PyObject_IsTrue(value);
        *(uint8_t *)to = truth > 0;
        return truth < 0 ? -1 : 0;
    }
    case 'f':
        return store_float(value, dtype, to);
    case 'c':
        return store_complex(value, dtype, to);
    default:
        if (PyFloat_Check(value)) { /* as int() does: an array of integers told to hold 2.5 holds 2 */
            PyObject *whole = PyNumber_Long(value);
            int result = whole ? store_integer(whole, dtype, to) : -1;
            Py_XDECREF(whole);
            return result;
        }
        return store_integer(value, dtype, to);
    }
}

PyObject *we_native_number_load(we_array_dtype dtype, const void *from) {
    float f32[2];
    double f64[2];
    int64_t sign = 0;
    uint64_t bits = 0;
    size_t size = (size_t)we_array_dtype_size(dtype);
    switch (dtype) {
    case WE_ARRAY_BOOL:
        return PyBool_FromLong(*(const uint8_t *)from);
    case WE_ARRAY_F32:
        memcpy(f32, from, size);
        return PyFloat_FromDouble(f32[0]);
    case WE_ARRAY_F64:
        memcpy(f64, from, size);
        return PyFloat_FromDouble(f64[0]);
    case WE_ARRAY_C64:
        memcpy(f32, from, size);
        return PyComplex_FromDoubles(f32[0], f32[1]);
    case WE_ARRAY_C128:
        memcpy(f64, from, size);
        return PyComplex_FromDoubles(f64[0], f64[1]);
    default:
        memcpy(&bits, from, size);
        if (we_array_dtype_kind(dtype) == 'u') {
            return PyLong_FromUnsignedLongLong(bits);
        }
        sign = (int64_t)(bits << (64 - 8 * size)) >> (64 - 8 * size);
        return PyLong_FromLongLong(sign);
    }
}
