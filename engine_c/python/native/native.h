/* What the files of the extension share. See _native.c for the invariants. */
#ifndef WALLE_NATIVE_H
#define WALLE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "walle/array.h"
#include "walle/engine.h"

/* One per interpreter. */
typedef struct {
    PyTypeObject *tensor_type;
    PyTypeObject *model_type;
    PyTypeObject *session_type;
    PyTypeObject *lent_type;
    PyTypeObject *array_type;
    PyTypeObject *dtype_type;
    PyTypeObject *random_type;
    PyObject *dtypes[WE_ARRAY_DTYPE_COUNT]; /* the object of each */
    PyObject *array_namespace;              /* the module of the functions of arrays, once it is imported */
} native_state;

/* The state of the module that made this object's type; our types have no subclasses. */
native_state *we_native_state(PyObject *self);
/* Raise what walle_engine.errors makes of an engine failure. Always returns NULL. */
PyObject *we_native_raise(const we_error *error);

/* ---- Elements and Python numbers (elements.c) ---- */

/* The dtype of a buffer's elements, or -1. Letters of one kind differ only in size, which the buffer states.
 */
int we_native_dtype_of_format(const char *format, Py_ssize_t itemsize);
/* Is a buffer of `dtype` seen as one of `shown`, having no format of its own? */
bool we_native_shows_as(we_dtype dtype, int shown);
/* One element as a Python number. */
PyObject *we_native_element_get(we_dtype dtype, const void *from);
/* Fill dims from nested sequences by their first elements; filling checks the rest. Rank or -1. */
int we_native_nested_shape(PyObject *data, int64_t *dims);
/* Copy nested sequences of exactly this shape. `to` moves on past what was written. 0 or -1. Of texts it
 * stores pointers to copies that the caller frees. */
int we_native_nested_fill(PyObject *data, we_dtype dtype, const int64_t *dims, int rank, char **to);

/* The same for texts, into a fresh block of dtype STRING and that many elements. 0 or -1. */
int we_native_texts_fill(we_block *block, PyObject *data, const int64_t *dims, int rank);

/* ---- Tensor (tensor.c) ---- */

typedef struct {
    PyObject ob_base;
    we_block *block;
    we_view view;
    Py_ssize_t shape[WE_MAX_RANK];
    Py_ssize_t strides[WE_MAX_RANK]; /* bytes */
} Tensor;

extern PyType_Spec we_native_tensor_spec;
/* Wrap a block; takes over the caller's reference even on failure. */
PyObject *we_native_tensor_wrap(PyTypeObject *type, we_block *block);

/* ---- One mapped model per file, whichever interpreter asks (registry.c; knows no Python) ---- */

typedef struct shared_model shared_model;

/* Find the model of this file, or load it. Blocks; the caller holds no GIL. */
we_status we_native_registry_open(const char *path, shared_model **out, we_error *error);
/* A model of bytes, which are copied; nobody else finds it. */
we_status we_native_registry_take(const void *bytes, size_t size, shared_model **out, we_error *error);
void we_native_registry_close(shared_model *entry);
we_model *we_native_registry_model(const shared_model *entry);

/* ---- Model and Session (model.c) ---- */

extern PyType_Spec we_native_model_spec;
extern PyType_Spec we_native_session_spec;

/* ---- Runs for the cffi binding (run_buffers.c) ---- */

/* (address of a we_session, inputs, number of outputs) to the outputs; None, with nothing done, unless all
 * inputs are dense buffers of types that have a format of their own. */
PyObject *we_native_run_buffers(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* ---- Operations on images (imaging.c) ---- */

/* (operation, inputs, outputs, numbers, threads): run it on buffers of up to three dims. */
PyObject *we_native_imaging(PyObject *module, PyObject *const *args, Py_ssize_t count);
/* The names of the operations, in order. */
PyObject *we_native_imaging_names(PyObject *module, PyObject *ignored);
PyObject *we_native_image_info(PyObject *module, PyObject *image);
/* (image, mode, method, x offset, y offset) to (tensors of points, tensor of the hierarchy). */
PyObject *we_native_contours(PyObject *module, PyObject *args);

/* ---- DLPack (dlpack.c) ---- */

extern PyType_Spec we_native_lent_spec;
/* (handle of an exported block, versioned) to a capsule. */
PyObject *we_native_dlpack_capsule(PyObject *module, PyObject *args);
/* A capsule to (buffer of its bytes, dtype, shape). */
PyObject *we_native_dlpack_take(PyObject *module, PyObject *capsule);

#endif
