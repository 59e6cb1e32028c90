/* Arrays: what the files of the array type share, and what other files build on. See array.c for the
 * invariants. */
#ifndef WALLE_NATIVE_ARRAY_H
#define WALLE_NATIVE_ARRAY_H

#include "native.h" /* first, as Python.h must be */

#include "walle/array.h"

/* ---- The type (array.c) ---- */

typedef struct Array {
    PyObject ob_base;
    we_array view;
    we_block *block;  /* whose memory it is; or NULL */
    PyObject *lender; /* a memoryview whose memory it is; or NULL */
    bool readonly;
} Array;

extern PyType_Spec we_native_array_spec;

bool we_native_is_array(const PyObject *object);
static inline const we_array *we_native_view(const PyObject *array) {
    return &((const Array *)array)->view;
}
int64_t we_native_count(const we_array *x);
/* Do the elements lie together in row-major order? */
bool we_native_is_dense(const we_array *x);
/* Strides of a dense array. */
void we_native_set_dense(we_array *x);

/* A dense array whose elements are undefined; NULL with an exception. Every function here returns new
 * references. */
Array *we_native_array_new(native_state *state, we_array_dtype dtype, int rank, const int64_t *dims);
Array *we_native_array_new_like(native_state *state, we_array_dtype dtype, const we_array *shape);
/* Another view of the memory that `base` sees. */
Array *we_native_array_view(native_state *state, const Array *base, const we_array *view);
/* An array over the memory of a block; takes over the reference, also on failure. */
Array *we_native_array_wrap(native_state *state, we_block *block);
/* Whatever can be an array: an Array or Tensor as it is, a buffer without a copy, numbers, nested sequences
 * of those. dtype -1: what the value has; else it is converted to that. */
Array *we_native_array_from(native_state *state, PyObject *value, int dtype);
/* The same, dense: what C cores want. `fresh`: a copy in any case, to be written to. */
Array *we_native_array_dense(native_state *state, PyObject *value, int dtype, bool fresh);
/* A dense copy. */
Array *we_native_array_copy(native_state *state, const Array *from, int dtype);

/* Raise what is wrong with arguments as ValueError, all else as we_native_raise does. Returns NULL. */
PyObject *we_native_array_raise(const we_error *error);
/* "f() takes an array, not a str". Returns NULL. */
PyObject *we_native_array_expected(const char *function, PyObject *value);

/* ---- Dtypes (array_dtype.c) ---- */

typedef struct {
    PyObject ob_base;
    we_array_dtype code;
} DType;

extern PyType_Spec we_native_dtype_spec;
int we_native_dtypes_add(PyObject *module, native_state *state);
/* The one object of a dtype; a new reference. */
PyObject *we_native_dtype_object(native_state *state, we_array_dtype dtype);
/* A dtype, its name, or bool, int, float, complex; None gives `fallback`. -1 with an exception. */
int we_native_dtype_parse(native_state *state, PyObject *value, int fallback);
we_array_dtype we_native_dtype_promote(we_array_dtype a, we_array_dtype b);
/* The dtype that an array of `dtype` gets beside a Python number (bool, int, float, complex). */
we_array_dtype we_native_dtype_beside(we_array_dtype dtype, PyObject *number);
/* May it be converted without leaving its kind: bool, integer, float, complex, in this order? */
bool we_native_dtype_same_kind(we_array_dtype from, we_array_dtype to);

/* ---- Random numbers (array_random.c) ---- */

extern PyType_Spec we_native_random_spec;

/* ---- Python numbers (array_numbers.c) ---- */

bool we_native_is_number(PyObject *value);
/* The dtype a number has by itself: bool, int64, float64, complex128. */
we_array_dtype we_native_number_dtype(PyObject *value);
/* Store a number as an element. 0 or -1; OverflowError where an integer does not fit. */
int we_native_number_store(PyObject *value, we_array_dtype dtype, void *to);
PyObject *we_native_number_load(we_array_dtype dtype, const void *from);

/* ---- Calls ---- */

/* Fill `out` with the arguments of a METH_FASTCALL | METH_KEYWORDS call by the names in `names`
 * (NULL-terminated; the first `positional` by place alone, those from `keywords` on by name alone); absent
 * ones stay as they are. `required`: how many must be there. 0 or -1. */
int we_native_arguments(const char *function, const char *const *names, int positional, int keywords,
                        int required, PyObject *const *args, Py_ssize_t count, PyObject *kwnames,
                        PyObject **out);
/* None or an int or a sequence of ints to dims. The count, or -1. */
int we_native_ints(const char *function, const char *name, PyObject *value, int64_t *out, int most);
/* An axis in 0..rank-1; -1 with an IndexError. */
int we_native_axis(const char *function, PyObject *value, int rank);

/* Work worth letting other threads of the interpreter run meanwhile. */
enum { WE_NATIVE_LONG = 1 << 15 };
#define WE_NATIVE_RUN(elements, status, call)                                                                \
    do {                                                                                                     \
        if ((elements) >= WE_NATIVE_LONG) {                                                                  \
            Py_BEGIN_ALLOW_THREADS;                                                                          \
            (status) = (call);                                                                               \
            Py_END_ALLOW_THREADS;                                                                            \
        } else {                                                                                             \
            (status) = (call);                                                                               \
        }                                                                                                    \
    } while (0)

/* `shape` becomes the shape that it and x broadcast to. 0 or -1 with a ValueError. */
int we_native_broadcast(const we_array *x, we_array *shape);

/* Slots of the type (array_elementwise.c). */
#define OPERATOR(slot, fn)                                                                                   \
    PyObject *we_native_array_##slot(PyObject *a, PyObject *b);                                              \
    PyObject *we_native_array_inplace_##slot(PyObject *a, PyObject *b);
#include "array_operators.inc"
#undef OPERATOR
PyObject *we_native_array_power(PyObject *a, PyObject *b, PyObject *modulus);
PyObject *we_native_array_inplace_power(PyObject *a, PyObject *b, PyObject *modulus);
PyObject *we_native_array_matmul(PyObject *a, PyObject *b);
PyObject *we_native_array_inplace_matmul(PyObject *a, PyObject *b);
PyObject *we_native_array_divmod(PyObject *a, PyObject *b);
PyObject *we_native_array_negative(PyObject *a);
PyObject *we_native_array_positive(PyObject *a);
PyObject *we_native_array_absolute(PyObject *a);
PyObject *we_native_array_invert(PyObject *a);
PyObject *we_native_array_richcompare(PyObject *a, PyObject *b, int op);

/* Tables of functions that the module has (one a file). */
extern PyMethodDef we_native_array_functions[];
extern PyMethodDef we_native_elementwise_functions[];
extern PyMethodDef we_native_reduce_functions[];
extern PyMethodDef we_native_shape_functions[];
extern PyMethodDef we_native_index_functions[];
extern PyMethodDef we_native_product_functions[];
extern PyMethodDef we_native_numeric_functions[];
extern PyMethodDef we_native_dlpack_functions[];
extern PyMethodDef we_native_dlpack_methods[];
/* Tables of methods that array.c joins to its own. */
extern PyMethodDef we_native_reduce_methods[];
extern PyMethodDef we_native_shape_methods[];

typedef PyObject *(*we_native_function)(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                        PyObject *kwnames);
/* Call a function of the module with `self` before the arguments. */
PyObject *we_native_as_method(we_native_function function, PyObject *self, PyObject *const *args,
                              Py_ssize_t count, PyObject *kwnames);

/* Slots of the type (array_index.c). */
PyObject *we_native_array_getitem(PyObject *self, PyObject *key);
int we_native_array_setitem(PyObject *self, PyObject *key, PyObject *value);

#endif
