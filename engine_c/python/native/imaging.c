/* Operations on images that Python code lends as buffers. */
#include "native.h" /* first, as Python.h must be */

#include <string.h>

#include "walle/imaging.h"

enum { MOST_IMAGES = 40, MOST_NUMBERS = 256 };

/* A lent buffer as an image, and what has to be given back. */
typedef struct lent_image {
    Py_buffer buffer;
    void *copy; /* of pixels that are not packed; NULL: none was needed */
} lent_image;

static void lent_release(lent_image *lent, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyMem_RawFree(lent[i].copy);
        PyBuffer_Release(&lent[i].buffer);
    }
}

/* Are the elements of each row side by side? */
static bool is_packed(const Py_buffer *buffer) {
    Py_ssize_t stride = buffer->itemsize;
    for (int axis = buffer->ndim - 1; axis > 0; axis--) {
        if (buffer->shape[axis] != 1 && buffer->strides[axis] != stride) {
            return false;
        }
        stride *= buffer->shape[axis];
    }
    return buffer->ndim != 1 || buffer->shape[0] <= 1 || buffer->strides[0] == stride;
}

static int image_layout(lent_image *lent, int writable, we_image *image) {
    const Py_buffer *buffer = &lent->buffer;
    int ndim = buffer->ndim;
    int64_t row = buffer->itemsize;
    image->height = ndim >= 2 ? buffer->shape[0] : 1;
    image->width = ndim >= 2 ? buffer->shape[1] : ndim == 1 ? buffer->shape[0] : 1;
    image->channels = ndim == 3 ? buffer->shape[2] : 1;
    image->data = buffer->buf;
    row *= image->width * image->channels;
    image->row = row;
    if (buffer->len == 0 || ndim == 0) {
        return 0;
    }
    if (is_packed(buffer)) {
        if (ndim >= 2) {
            image->row = buffer->strides[0];
        }
        return 0;
    }
    if (writable) {
        PyErr_SetString(PyExc_ValueError, "the pixels of a result's rows must lie side by side");
        return -1;
    }
    image->data = lent->copy = PyMem_RawMalloc((size_t)buffer->len);
    if (lent->copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return PyBuffer_ToContiguous(lent->copy, buffer, buffer->len, 'C');
}

/* Borrow a buffer as an image. 0, or -1 with nothing held. */
static int lend(PyObject *object, int writable, lent_image *lent, we_image *image) {
    lent->copy = NULL;
    if (PyObject_GetBuffer(object, &lent->buffer, writable ? PyBUF_FULL : PyBUF_FULL_RO) < 0) {
        return -1;
    }
    int dtype = we_native_dtype_of_format(lent->buffer.format, lent->buffer.itemsize);
    int failed = 0;
    if (dtype < 0) {
        PyErr_Format(PyExc_TypeError, "elements of format '%s' are no pixels",
                     lent->buffer.format ? lent->buffer.format : "B");
        failed = -1;
    } else if (lent->buffer.ndim > 3) {
        PyErr_Format(PyExc_ValueError, "an image has 2 or 3 dims, not %d", lent->buffer.ndim);
        failed = -1;
    } else {
        image->dtype = dtype == WE_BOOL ? WE_U8 : (we_dtype)dtype;
        failed = image_layout(lent, writable, image);
    }
    if (failed) {
        lent_release(lent, 1);
    }
    return failed;
}

static int numbers_from(PyObject *tuple, double *numbers) {
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) > MOST_NUMBERS) {
        PyErr_Format(PyExc_TypeError, "numbers are a tuple of at most %d", MOST_NUMBERS);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        numbers[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(tuple, i));
        if (numbers[i] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

PyObject *we_native_imaging(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    lent_image lent[MOST_IMAGES];
    we_image images[MOST_IMAGES];
    double numbers[MOST_NUMBERS];
    if (count != 5 || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]) ||
        PyTuple_GET_SIZE(args[1]) + PyTuple_GET_SIZE(args[2]) > MOST_IMAGES) {
        return PyErr_Format(PyExc_TypeError,
                            "imaging takes an operation, tuples of inputs, outputs (%d in all) and numbers, "
                            "and a number of threads",
                            MOST_IMAGES);
    }
    long op = PyLong_AsLong(args[0]), threads = PyLong_AsLong(args[4]);
    if (PyErr_Occurred() || numbers_from(args[3], numbers) < 0) {
        return NULL;
    }
    Py_ssize_t in_count = PyTuple_GET_SIZE(args[1]), all = in_count + PyTuple_GET_SIZE(args[2]), held = 0;
    for (; held < all; held++) {
        PyObject *object =
            held < in_count ? PyTuple_GET_ITEM(args[1], held) : PyTuple_GET_ITEM(args[2], held - in_count);
        if (lend(object, held >= in_count, &lent[held], &images[held]) < 0) {
            lent_release(lent, held);
            return NULL;
        }
    }
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_imaging_run((int)op, images, (size_t)in_count, images + in_count, (size_t)(all - in_count),
                            numbers, (size_t)PyTuple_GET_SIZE(args[3]), (int32_t)threads, &error);
    Py_END_ALLOW_THREADS;
    lent_release(lent, held);
    return status == WE_OK ? Py_NewRef(Py_None) : we_native_raise(&error);
}

/* (height, width, channels or 0, name of the element type, shape) of an image. */
PyObject *we_native_image_info(PyObject *Py_UNUSED(module), PyObject *object) {
    static const unsigned int PIXELS = 1u << WE_U8 | 1u << WE_I8 | 1u << WE_U16 | 1u << WE_I16 |
                                       1u << WE_I32 | 1u << WE_U32 | 1u << WE_F32 | 1u << WE_F64;
    Py_buffer buffer;
    if (!PyObject_CheckBuffer(object)) {
        return PyErr_Format(PyExc_TypeError, "an image is a buffer, such as an array or a tensor, not %s",
                            Py_TYPE(object)->tp_name);
    }
    if (PyObject_GetBuffer(object, &buffer, PyBUF_FULL_RO) < 0) {
        return NULL;
    }
    int dtype = we_native_dtype_of_format(buffer.format, buffer.itemsize), ndim = buffer.ndim;
    dtype = dtype == WE_BOOL ? WE_U8 : dtype;
    PyObject *made = NULL;
    if (dtype < 0 || !(PIXELS >> dtype & 1)) {
        PyErr_Format(PyExc_TypeError,
                     "an image holds no elements of format '%s': convert it to uint8 or float32",
                     buffer.format ? buffer.format : "B");
    } else if (ndim != 2 && ndim != 3) {
        PyErr_Format(PyExc_TypeError, "an image has 2 or 3 dims, not %d", ndim);
    } else {
        Py_ssize_t height = buffer.shape[0], width = buffer.shape[1],
                   channels = ndim == 3 ? buffer.shape[2] : 0;
        made = ndim == 3 ? Py_BuildValue("nnns(nnn)", height, width, channels, we_dtype_name((we_dtype)dtype),
                                         height, width, channels)
                         : Py_BuildValue("nnns(nn)", height, width, channels, we_dtype_name((we_dtype)dtype),
                                         height, width);
    }
    PyBuffer_Release(&buffer);
    return made;
}

PyObject *we_native_imaging_names(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    int count = 0;
    while (we_imaging_name(count) != NULL) {
        count++;
    }
    PyObject *names = PyTuple_New(count);
    for (int op = 0; names != NULL && op < count; op++) {
        PyObject *name = PyUnicode_FromString(we_imaging_name(op));
        if (name == NULL) {
            Py_CLEAR(names);
        } else {
            PyTuple_SET_ITEM(names, op, name);
        }
    }
    return names;
}

/* ---- Contours, whose number only the image knows ---- */

/* Ints as a tensor [count, 1, of_each], the way OpenCV hands out points; [1, count, of_each] if `across`. */
static PyObject *ints_wrap(native_state *state, const int32_t *from, int64_t count, int64_t of_each,
                           bool across) {
    int64_t dims[3] = {across ? 1 : count, across ? count : 1, of_each};
    we_block *block;
    we_error error;
    if (we_block_new(WE_I32, 3, dims, &block, &error) != WE_OK) {
        return we_native_raise(&error);
    }
    memcpy(we_block_view(block).data, from, (size_t)(count * of_each) * sizeof *from);
    return we_native_tensor_wrap(state->tensor_type, block);
}

PyObject *we_native_contours(PyObject *module, PyObject *args) {
    PyObject *object;
    int mode, method, x, y;
    if (!PyArg_ParseTuple(args, "Oiiii:contours", &object, &mode, &method, &x, &y)) {
        return NULL;
    }
    lent_image lent;
    we_image image;
    if (lend(object, 0, &lent, &image) < 0) {
        return NULL;
    }
    we_contours found;
    we_error error;
    we_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = we_contours_find(&image, mode, method, x, y, &found, &error);
    Py_END_ALLOW_THREADS;
    lent_release(&lent, 1);
    if (status != WE_OK) {
        return we_native_raise(&error);
    }
    native_state *state = PyModule_GetState(module);
    PyObject *points = PyTuple_New((Py_ssize_t)found.count);
    for (size_t i = 0; points != NULL && i < found.count; i++) {
        PyObject *contour = ints_wrap(state, found.points + 2 * found.starts[i],
                                      (int64_t)(found.starts[i + 1] - found.starts[i]), 2, false);
        if (contour == NULL) {
            Py_CLEAR(points);
        } else {
            PyTuple_SET_ITEM(points, (Py_ssize_t)i, contour);
        }
    }
    PyObject *hierarchy =
        found.count ? ints_wrap(state, found.hierarchy, (int64_t)found.count, 4, true) : Py_NewRef(Py_None);
    we_contours_free(&found);
    return points && hierarchy ? Py_BuildValue("NN", points, hierarchy)
                               : (Py_XDECREF(points), Py_XDECREF(hierarchy), NULL);
}
