/* Random: a generator of random numbers, and the only state this file has. */
#include "array.h" /* first, as Python.h must be */

#include "walle/numeric.h"

typedef struct {
    PyObject ob_base;
    we_random generator;
} Random;

/* Random(words): a generator seeded by a sequence of integers below 2^32. */
static PyObject *random_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"words", NULL};
    PyObject *words;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Random", names, &words)) {
        return NULL;
    }
    PyObject *items = PySequence_Tuple(words);
    if (items == NULL) {
        return NULL;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(items);
    uint32_t *seed = PyMem_Calloc(count + 1, sizeof *seed);
    Random *self = NULL;
    if (seed == NULL) {
        Py_DECREF(items);
        return PyErr_NoMemory();
    }
    for (size_t i = 0; i < count; i++) {
        unsigned long word = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(items, (Py_ssize_t)i));
        if (word > UINT32_MAX || PyErr_Occurred()) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "a word of a seed is 2^32 or more");
            }
            goto done;
        }
        seed[i] = (uint32_t)word;
    }
    self = (Random *)type->tp_alloc(type, 0);
    if (self != NULL) {
        we_random_seed(&self->generator, seed, count);
    }
done:
    PyMem_Free(seed);
    Py_DECREF(items);
    return (PyObject *)self;
}

static void random_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static Array *made(PyObject *self, PyObject *shape, we_array_dtype dtype) {
    int64_t dims[WE_MAX_RANK];
    int rank = we_native_ints("random", "size", shape, dims, WE_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) {
            PyErr_SetString(PyExc_ValueError, "size has a negative dim");
            return NULL;
        }
    }
    return rank < 0 ? NULL : we_native_array_new(we_native_state(self), dtype, rank, dims);
}

/* fill(kind, shape, shift, scale): kind 0 uniform, 1 normal, 2 exponential. */
static PyObject *random_fill(PyObject *self, PyObject *args) {
    int kind;
    PyObject *shape;
    double shift, scale;
    if (!PyArg_ParseTuple(args, "iOdd:fill", &kind, &shape, &shift, &scale)) {
        return NULL;
    }
    if (kind < WE_RANDOM_UNIFORM || kind > WE_RANDOM_EXPONENTIAL) {
        return PyErr_Format(PyExc_ValueError, "there is no kind %d", kind);
    }
    Array *out = made(self, shape, WE_ARRAY_F64);
    if (out != NULL) {
        we_random_fill(&((Random *)self)->generator, (we_random_kind)kind, we_native_count(&out->view), shift,
                       scale, (double *)out->view.data);
    }
    return (PyObject *)out;
}

static PyObject *random_fill_float32(PyObject *self, PyObject *shape) {
    Array *out = made(self, shape, WE_ARRAY_F32);
    if (out != NULL) {
        we_random_fill_f32(&((Random *)self)->generator, we_native_count(&out->view),
                           (float *)out->view.data);
    }
    return (PyObject *)out;
}

/* integers(least, range, shape): least..least + range. */
static PyObject *random_integers(PyObject *self, PyObject *args) {
    PyObject *shape;
    long long least;
    unsigned long long range;
    if (!PyArg_ParseTuple(args, "LKO:integers", &least, &range, &shape)) {
        return NULL;
    }
    Array *out = made(self, shape, WE_ARRAY_I64);
    if (out != NULL) {
        we_random_integers(&((Random *)self)->generator, least, range, we_native_count(&out->view),
                           (int64_t *)out->view.data);
    }
    return (PyObject *)out;
}

/* shuffled(count, first, masked): the places 0..count - 1, those from `first` on exchanged with one before.
 */
static PyObject *random_shuffled(PyObject *self, PyObject *args) {
    long long count, first;
    int masked;
    if (!PyArg_ParseTuple(args, "LLp:shuffled", &count, &first, &masked)) {
        return NULL;
    }
    int64_t dims[1] = {count};
    Array *out = count < 0 ? NULL : we_native_array_new(we_native_state(self), WE_ARRAY_I64, 1, dims);
    if (out == NULL) {
        return count < 0 ? PyErr_Format(PyExc_ValueError, "%lld places are less than none", count) : NULL;
    }
    int64_t *places = (int64_t *)out->view.data;
    for (int64_t i = 0; i < count; i++) {
        places[i] = i;
    }
    we_random_shuffle(&((Random *)self)->generator, first < 1 ? 1 : first, count, masked, places);
    return (PyObject *)out;
}

static PyMethodDef random_methods[] = {
    {"fill", random_fill, METH_VARARGS, "Return random float64s: fill(kind, shape, shift, scale)."},
    {"fill_float32", random_fill_float32, METH_O, "Return float32s, uniform in [0, 1)."},
    {"integers", random_integers, METH_VARARGS,
     "Return int64s from least on: integers(least, range, shape)."},
    {"shuffled", random_shuffled, METH_VARARGS,
     "Return places in random order: shuffled(count, first, masked)."},
    {0},
};
static PyType_Slot random_slots[] = {
    {Py_tp_doc, "Random(words)\n--\n\nA generator of random numbers (PCG64), seeded by integers below 2^32."},
    {Py_tp_new, random_new},
    {Py_tp_dealloc, random_dealloc},
    {Py_tp_methods, random_methods},
    {0, NULL},
};
PyType_Spec we_native_random_spec = {
    .name = "walle_engine._native.Random",
    .basicsize = sizeof(Random),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = random_slots,
};
