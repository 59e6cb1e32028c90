/* Reading and writing parts of arrays.
 *
 * A key is taken apart in two steps. Integers, slices, None and the ellipsis make a view. What remains are
 * arrays of integers and of truth values ("picks"): each turns into offsets in bytes, those of all are added
 * up, and the elements, or the parts of the array that lie at the offsets, are moved one by one. */
#include "array.h" /* first, as Python.h must be */

#include <string.h>

enum { MOST_KEYS = 4 * WE_MAX_RANK };

/* One pick: offsets from the start of the view, in a shape that broadcasts to those of the others. */
typedef struct {
    Array *offsets; /* int64, dense */
} pick;

/* A key taken apart. */
typedef struct {
    we_array view; /* after the first step; picked axes are gone */
    int picks;     /* 0: the view is the answer */
    pick pick[WE_MAX_RANK];
    we_array where; /* dims of all picks together */
    int at;         /* before which axis of the view they stand */
    Array *offsets; /* all of them together, dense, in the dims of `where` */
} key_parts;

static void parts_close(key_parts *k) {
    for (int i = 0; i < k->picks; i++) {
        Py_XDECREF(k->pick[i].offsets);
    }
    Py_XDECREF(k->offsets);
}

/* ---- Picks ---- */

static int out_of_range(int64_t index, int64_t dim, int axis) {
    PyErr_Format(PyExc_IndexError, "index %lld is outside axis %d of %lld elements", (long long)index, axis,
                 (long long)dim);
    return -1;
}

/* Integers along one axis. */
static int pick_integers(native_state *state, key_parts *k, const Array *indices, int64_t dim, int64_t stride,
                         int axis) {
    Array *offsets = we_native_array_copy(state, indices, WE_ARRAY_I64);
    if (offsets == NULL) {
        return -1;
    }
    k->pick[k->picks++].offsets = offsets;
    int64_t *numbers = (int64_t *)offsets->view.data, count = we_native_count(&offsets->view);
    for (int64_t i = 0; i < count; i++) {
        int64_t index = numbers[i] < 0 ? numbers[i] + dim : numbers[i];
        if (index < 0 || index >= dim) {
            return out_of_range(numbers[i], dim, axis);
        }
        numbers[i] = index * stride;
    }
    return 0;
}

/* Truth values along as many axes as they have. */
static int pick_mask(native_state *state, key_parts *k, const Array *given, const int64_t *dims,
                     const int64_t *strides, int axis) {
    Array *mask = we_native_is_dense(&given->view) ? (Array *)Py_NewRef((PyObject *)given)
                                                   : we_native_array_copy(state, given, -1);
    if (mask == NULL) {
        return -1;
    }
    int rank = mask->view.rank;
    const uint8_t *truths = (const uint8_t *)mask->view.data;
    int64_t count = we_native_count(&mask->view), chosen = 0, place[WE_MAX_RANK] = {0}, offset = 0;
    for (int i = 0; i < rank; i++) {
        if (mask->view.dims[i] != dims[i]) {
            PyErr_Format(PyExc_IndexError, "a mask of %lld elements does not fit axis %d of %lld",
                         (long long)mask->view.dims[i], axis + i, (long long)dims[i]);
            Py_DECREF(mask);
            return -1;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        chosen += truths[i] != 0; /* lent memory may hold any byte */
    }
    int64_t room = chosen + 1; /* each place is written, and kept where the mask is true */
    Array *offsets = we_native_array_new(state, WE_ARRAY_I64, 1, &room);
    if (offsets == NULL) {
        Py_DECREF(mask);
        return -1;
    }
    int64_t *to = (int64_t *)offsets->view.data, *end = to + chosen;
    int64_t row = rank ? dims[rank - 1] : 1, step = rank ? strides[rank - 1] : 0;
    for (int64_t begin = 0; begin < count; begin += row) {
        for (int64_t i = 0; i < row; i++) {
            *to = offset + i * step;
            to += truths[begin + i] != 0 && to < end; /* it may change meanwhile */
        }
        for (int i = rank - 2; i >= 0; i--) {
            offset += strides[i];
            if (++place[i] < dims[i]) {
                break;
            }
            offset -= dims[i] * strides[i];
            place[i] = 0;
        }
    }
    while (to < end) {
        *to++ = 0; /* fewer than there were */
    }
    Py_DECREF(mask);
    offsets->view.dims[0] = chosen;
    k->pick[k->picks++].offsets = offsets;
    return 0;
}

/* Add up what all picks say. */
static int join_picks(native_state *state, key_parts *k) {
    we_error error;
    k->where = (we_array){0};
    for (int i = 0; i < k->picks; i++) {
        if (we_native_broadcast(&k->pick[i].offsets->view, &k->where) < 0) {
            PyErr_SetString(PyExc_IndexError, "the index arrays do not broadcast to one shape");
            return -1;
        }
    }
    if (k->picks == 1) {
        k->offsets = (Array *)Py_NewRef((PyObject *)k->pick[0].offsets);
        return 0;
    }
    k->offsets = we_native_array_new_like(state, WE_ARRAY_I64, &k->where);
    if (k->offsets == NULL) {
        return -1;
    }
    int64_t nothing = 0;
    we_array zero = {.dtype = WE_ARRAY_I64, .data = (char *)&nothing};
    const we_array *sum = &zero;
    for (int i = 0; i < k->picks; i++) {
        if (we_array_binary(WE_ARRAY_BINARY_add, WE_ARRAY_I64, sum, &k->pick[i].offsets->view,
                            &k->offsets->view, &error) != WE_OK) {
            we_native_array_raise(&error);
            return -1;
        }
        sum = &k->offsets->view;
    }
    return 0;
}

/* ---- Keys ---- */

/* How many axes of the array a part of a key takes up; -1 with an exception. */
static int axes_of_key(PyObject *key) {
    if (key == Py_None || key == Py_Ellipsis || PyBool_Check(key)) {
        return 0;
    }
    if (we_native_is_array(key) && we_native_view(key)->dtype == WE_ARRAY_BOOL) {
        return we_native_view(key)->rank;
    }
    return 1;
}

/* Lists and buffers become arrays; what cannot be a part of a key is refused. New reference. */
static PyObject *key_part(native_state *state, PyObject *key) {
    if (key == Py_None || key == Py_Ellipsis || PySlice_Check(key) || PyBool_Check(key) ||
        PyLong_Check(key)) {
        return Py_NewRef(key);
    }
    Array *array = NULL;
    if (we_native_is_array(key) || PyList_Check(key) || PyTuple_Check(key) || PyObject_CheckBuffer(key)) {
        array = we_native_array_from(state, key, -1);
    } else if (PyIndex_Check(key)) {
        return PyNumber_Index(key);
    }
    if (array != NULL && we_native_count(&array->view) == 0 && array->view.dtype == WE_ARRAY_F64 &&
        PyList_Check(key)) {
        Py_SETREF(array, we_native_array_copy(state, array, WE_ARRAY_I64)); /* [] picks nothing */
    }
    if (array != NULL && strchr("biu", we_array_dtype_kind(array->view.dtype)) == NULL) {
        PyErr_Format(PyExc_IndexError, "an array of %s is no index: arrays of integers and of bool are",
                     we_array_dtype_name(array->view.dtype));
        Py_CLEAR(array);
    } else if (array == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_IndexError,
                     "a %.100s is no index: integers, slices, None, ..., and arrays of integers or bool are",
                     Py_TYPE(key)->tp_name);
    }
    return (PyObject *)array;
}

static void add_axis(we_array *view, int64_t dim, int64_t stride) {
    view->dims[view->rank] = dim;
    view->strides[view->rank++] = stride;
}

typedef struct {
    const we_array *x;
    key_parts *k;
    int axis;         /* of x, next to be taken */
    bool apart, open; /* picks with something between them; the last part was a pick */
} key_state;

static int take_pick(native_state *state, key_state *s, const Array *indices) {
    key_parts *k = s->k;
    const we_array *x = s->x;
    if (k->picks == WE_MAX_RANK) {
        PyErr_SetString(PyExc_IndexError, "too many index arrays");
        return -1;
    }
    s->apart = s->apart || (k->picks > 0 && !s->open);
    if (k->picks == 0) {
        k->at = k->view.rank;
    }
    s->open = true;
    if (indices->view.dtype == WE_ARRAY_BOOL) {
        int first = s->axis;
        s->axis += indices->view.rank;
        return pick_mask(state, k, indices, x->dims + first, x->strides + first, first);
    }
    int axis = s->axis++;
    return pick_integers(state, k, indices, x->dims[axis], x->strides[axis], axis);
}

static int take_slice(key_state *s, PyObject *key) {
    Py_ssize_t start, stop, step;
    int64_t dim = s->x->dims[s->axis], stride = s->x->strides[s->axis];
    if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
        return -1;
    }
    Py_ssize_t count = PySlice_AdjustIndices((Py_ssize_t)dim, &start, &stop, step);
    if (count > 0) {
        s->k->view.data += start * stride;
    }
    add_axis(&s->k->view, count, count > 1 ? step * stride : stride);
    s->axis++;
    s->open = false;
    return 0;
}

static int take_integer(native_state *state, key_state *s, PyObject *key, bool with_picks) {
    Py_ssize_t given = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (given == -1 && PyErr_Occurred()) {
        return -1;
    }
    int64_t dim = s->x->dims[s->axis], index = given < 0 ? given + dim : given;
    if (index < 0 || index >= dim) {
        return out_of_range(given, dim, s->axis);
    }
    if (with_picks) { /* beside arrays, an integer is an array without dims */
        Array *number = we_native_array_new(state, WE_ARRAY_I64, 0, NULL);
        if (number == NULL) {
            return -1;
        }
        *(int64_t *)number->view.data = index;
        int result = take_pick(state, s, number);
        Py_DECREF(number);
        return result;
    }
    s->k->view.data += index * s->x->strides[s->axis++];
    s->open = false;
    return 0;
}

static int take_part(native_state *state, key_state *s, PyObject *key, int skipped, bool with_picks) {
    if (key == Py_None || key == Py_Ellipsis) {
        int added = key == Py_None ? 1 : skipped;
        if (s->k->view.rank + added > WE_MAX_RANK) {
            PyErr_Format(PyExc_IndexError, "the result would have more than %d dims", WE_MAX_RANK);
            return -1;
        }
        for (int i = 0; i < added; i++) {
            bool fresh = key == Py_None;
            add_axis(&s->k->view, fresh ? 1 : s->x->dims[s->axis], fresh ? 0 : s->x->strides[s->axis]);
            s->axis += !fresh;
        }
        s->open = s->open && added == 0;
        return 0;
    }
    if (PyBool_Check(key)) {
        Array *mask = we_native_array_from(state, key, WE_ARRAY_BOOL);
        int result = mask ? take_pick(state, s, mask) : -1;
        Py_XDECREF(mask);
        return result;
    }
    if (PySlice_Check(key)) {
        if (s->k->view.rank == WE_MAX_RANK) {
            PyErr_Format(PyExc_IndexError, "the result would have more than %d dims", WE_MAX_RANK);
            return -1;
        }
        return take_slice(s, key);
    }
    return PyLong_Check(key) ? take_integer(state, s, key, with_picks) : take_pick(state, s, (Array *)key);
}

static bool is_pick(PyObject *key) {
    return PyBool_Check(key) || we_native_is_array(key);
}

/* An array without dims that holds an integer is an integer. */
static PyObject *plain_integer(PyObject *part) {
    if (part != NULL && we_native_is_array(part) && we_native_view(part)->rank == 0 &&
        we_native_view(part)->dtype != WE_ARRAY_BOOL) {
        PyObject *number = we_native_number_load(we_native_view(part)->dtype, we_native_view(part)->data);
        Py_DECREF(part);
        return number;
    }
    return part;
}

static int parse_parts(native_state *state, const we_array *x, PyObject *const *given, Py_ssize_t count,
                       key_parts *k) {
    PyObject *parts[MOST_KEYS] = {NULL};
    key_state s = {.x = x, .k = k};
    int taken = 0, ellipses = 0, result = 0;
    bool with_picks = false;
    if (count >= MOST_KEYS) {
        PyErr_SetString(PyExc_IndexError, "too many indices");
        return -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        parts[i] = plain_integer(key_part(state, given[i]));
        if (parts[i] == NULL) {
            result = -1;
        } else {
            taken += axes_of_key(parts[i]);
            ellipses += parts[i] == Py_Ellipsis;
            with_picks = with_picks || is_pick(parts[i]);
        }
    }
    if (result == 0 && (taken > x->rank || ellipses > 1)) {
        PyErr_Format(PyExc_IndexError,
                     ellipses > 1 ? "an index has one ellipsis at most"
                                  : "%d indices are too many for an array of %d dims",
                     taken, (int)x->rank);
        result = -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        result = take_part(state, &s, parts[i], x->rank - taken, with_picks);
    }
    if (result == 0 && ellipses == 0) {
        result = take_part(state, &s, Py_Ellipsis, x->rank - taken, with_picks);
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(parts[i]);
    }
    if (s.apart) {
        k->at = 0;
    }
    return result;
}

static int parse_key(native_state *state, const we_array *x, PyObject *key, key_parts *k) {
    *k = (key_parts){.view = {.dtype = x->dtype, .data = x->data}};
    bool many = PyTuple_Check(key);
    int result = many ? parse_parts(state, x, &PyTuple_GET_ITEM(key, 0), PyTuple_GET_SIZE(key), k)
                      : parse_parts(state, x, &key, 1, k);
    if (result == 0 && k->picks > 0) {
        result = join_picks(state, k);
        if (result == 0 && k->where.rank + k->view.rank > WE_MAX_RANK) {
            PyErr_Format(PyExc_IndexError, "the result would have more than %d dims", WE_MAX_RANK);
            result = -1;
        }
    }
    if (result < 0) {
        parts_close(k);
    }
    return result;
}

/* ---- Moving what was picked ---- */

/* Dims of the result: those of the picks stand before axis `at` of the view. */
static we_array picked_shape(const key_parts *k) {
    we_array shape = {.dtype = k->view.dtype};
    for (int axis = 0; axis < k->at; axis++) {
        add_axis(&shape, k->view.dims[axis], 0);
    }
    for (int axis = 0; axis < k->where.rank; axis++) {
        add_axis(&shape, k->where.dims[axis], 0);
    }
    for (int axis = k->at; axis < k->view.rank; axis++) {
        add_axis(&shape, k->view.dims[axis], 0);
    }
    return shape;
}

/* Move between the picked parts and a dense array of picked_shape. */
static int move_picked(const key_parts *k, Array *dense, bool out) {
    we_error error;
    we_status status = WE_OK;
    we_array part = k->view, row = dense->view;
    int64_t count = we_native_count(&k->where), step = we_array_dtype_size(k->view.dtype);
    for (int axis = k->at; axis < k->view.rank; axis++) {
        step *= k->view.dims[axis]; /* from one pick to the next in the dense array */
    }
    row.rank = 0;
    for (int axis = 0; axis < k->view.rank; axis++) {
        int there = axis < k->at ? axis : axis + k->where.rank;
        add_axis(&row, dense->view.dims[there], dense->view.strides[there]);
    }
    const int64_t *offsets = (const int64_t *)k->offsets->view.data;
    bool single = we_native_count(&part) == 1;
    WE_NATIVE_RUN(count * we_native_count(&part), status,
                  single ? we_array_gather(offsets, count, part.dtype, part.data, row.data, out, &error)
                         : we_array_gather_parts(offsets, count, &part, &row, step, out, &error));
    if (status != WE_OK) {
        we_native_array_raise(&error);
        return -1;
    }
    return 0;
}

PyObject *we_native_array_getitem(PyObject *op, PyObject *key) {
    native_state *state = we_native_state(op);
    key_parts k;
    if (parse_key(state, we_native_view(op), key, &k) < 0) {
        return NULL;
    }
    if (k.picks == 0) {
        return (PyObject *)we_native_array_view(state, (Array *)op, &k.view);
    }
    we_array shape = picked_shape(&k);
    Array *out = we_native_array_new_like(state, k.view.dtype, &shape);
    if (out != NULL && move_picked(&k, out, true) < 0) {
        Py_CLEAR(out);
    }
    parts_close(&k);
    return (PyObject *)out;
}

/* What is assigned takes the dtype of the array; complex numbers do not become real by it. */
static Array *assigned(native_state *state, PyObject *value, we_array_dtype dtype) {
    Array *from = we_native_array_from(state, value, we_native_is_array(value) ? -1 : (int)dtype);
    if (from != NULL && we_array_dtype_kind(from->view.dtype) == 'c' && we_array_dtype_kind(dtype) != 'c') {
        PyErr_Format(PyExc_TypeError, "complex numbers do not fit %s: take real() or abs() of them",
                     we_array_dtype_name(dtype));
        Py_CLEAR(from);
    }
    return from;
}

static int assign_picked(native_state *state, key_parts *k, Array *from) {
    we_error error;
    we_array shape = picked_shape(k);
    Array *dense = we_native_array_new_like(state, k->view.dtype, &shape);
    int result = -1;
    if (dense != NULL && we_array_copy(&from->view, &dense->view, &error) != WE_OK) {
        we_native_array_raise(&error);
    } else if (dense != NULL) {
        result = move_picked(k, dense, false);
    }
    Py_XDECREF(dense);
    return result;
}

int we_native_array_setitem(PyObject *op, PyObject *key, PyObject *value) {
    native_state *state = we_native_state(op);
    Array *self = (Array *)op;
    we_error error;
    we_status status;
    key_parts k;
    if (value == NULL || self->readonly) {
        PyErr_SetString(PyExc_ValueError, value == NULL ? "elements of an array cannot be deleted"
                                                        : "the array's memory is read-only: copy() it first");
        return -1;
    }
    if (parse_key(state, &self->view, key, &k) < 0) {
        return -1;
    }
    Array *from = assigned(state, value, self->view.dtype);
    int result = -1;
    if (from != NULL && k.picks > 0) {
        result = assign_picked(state, &k, from);
    } else if (from != NULL) {
        WE_NATIVE_RUN(we_native_count(&k.view), status, we_array_copy(&from->view, &k.view, &error));
        result = status == WE_OK ? 0 : (we_native_array_raise(&error), -1);
    }
    Py_XDECREF(from);
    parts_close(&k);
    return result;
}

/* ---- take, take_along_axis ---- */

/* take(x, indices, /, *, axis=None) */
static PyObject *native_take(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) {
    static const char *const names[] = {"x", "indices", "axis", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[3] = {NULL};
    if (we_native_arguments("take", names, 2, 3, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    Array *x = we_native_array_from(state, given[0], -1);
    Array *indices = x ? we_native_array_from(state, given[1], -1) : NULL;
    PyObject *result = NULL;
    bool unnamed = given[2] == NULL || given[2] == Py_None;
    if (indices == NULL) {
        goto done;
    }
    if (unnamed && x->view.rank != 1) {
        PyErr_Format(PyExc_ValueError, "take() needs an axis for an array of %d dims", (int)x->view.rank);
        goto done;
    }
    if (strchr("iu", we_array_dtype_kind(indices->view.dtype)) == NULL) {
        PyErr_Format(PyExc_IndexError, "take() goes by integers, not by %s",
                     we_array_dtype_name(indices->view.dtype));
        goto done;
    }
    int axis = unnamed ? 0 : we_native_axis("take", given[2], x->view.rank);
    key_parts k = {.view = x->view, .at = axis};
    if (axis < 0) {
        goto done;
    }
    for (int i = axis; i + 1 < x->view.rank; i++) {
        k.view.dims[i] = x->view.dims[i + 1];
        k.view.strides[i] = x->view.strides[i + 1];
    }
    k.view.rank--;
    if (k.view.rank + indices->view.rank > WE_MAX_RANK) {
        PyErr_Format(PyExc_ValueError, "the result would have more than %d dims", WE_MAX_RANK);
        goto done;
    }
    if (pick_integers(state, &k, indices, x->view.dims[axis], x->view.strides[axis], axis) == 0 &&
        join_picks(state, &k) == 0) {
        we_array shape = picked_shape(&k);
        Array *out = we_native_array_new_like(state, k.view.dtype, &shape);
        if (out != NULL && move_picked(&k, out, true) < 0) {
            Py_CLEAR(out);
        }
        result = (PyObject *)out;
    }
    parts_close(&k);
done:
    Py_XDECREF(x);
    Py_XDECREF(indices);
    return result;
}

/* Numbers 0..dim-1 along one axis of a shape, times a stride. */
static Array *grid(native_state *state, int rank, int axis, int64_t dim, int64_t stride) {
    int64_t dims[WE_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        dims[i] = i == axis ? dim : 1;
    }
    Array *numbers = we_native_array_new(state, WE_ARRAY_I64, rank, dims);
    for (int64_t i = 0; numbers != NULL && i < dim; i++) {
        ((int64_t *)numbers->view.data)[i] = i * stride;
    }
    return numbers;
}

/* take_along_axis(x, indices, /, *, axis=-1) */
static PyObject *native_take_along_axis(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                        PyObject *kwnames) {
    static const char *const names[] = {"x", "indices", "axis", NULL};
    native_state *state = PyModule_GetState(module);
    PyObject *given[3] = {NULL};
    if (we_native_arguments("take_along_axis", names, 2, 3, 2, args, count, kwnames, given) < 0) {
        return NULL;
    }
    Array *x = we_native_array_from(state, given[0], -1);
    Array *indices = x ? we_native_array_from(state, given[1], -1) : NULL;
    Array *out = NULL;
    if (indices == NULL) {
        goto done;
    }
    int rank = x->view.rank;
    int axis = given[2] ? we_native_axis("take_along_axis", given[2], rank) : rank - 1;
    if (axis < 0 || rank != indices->view.rank ||
        strchr("iu", we_array_dtype_kind(indices->view.dtype)) == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError,
                            "take_along_axis() takes integers in as many dims as the array has, one or more");
        }
        goto done;
    }
    key_parts k = {.view = {.dtype = x->view.dtype, .data = x->view.data}};
    int result = pick_integers(state, &k, indices, x->view.dims[axis], x->view.strides[axis], axis);
    for (int i = 0; result == 0 && i < rank; i++) {
        int64_t dim = indices->view.dims[i] == 1 ? x->view.dims[i] : indices->view.dims[i];
        if (i == axis) {
            continue;
        }
        if (dim != x->view.dims[i] && x->view.dims[i] != 1) {
            PyErr_Format(PyExc_ValueError,
                         "take_along_axis(): axis %d has %lld elements, and %lld in the indices", i,
                         (long long)x->view.dims[i], (long long)dim);
            result = -1;
            break;
        }
        k.pick[k.picks].offsets = grid(state, rank, i, dim, x->view.dims[i] == 1 ? 0 : x->view.strides[i]);
        result = k.pick[k.picks++].offsets == NULL ? -1 : 0;
    }
    if (result == 0 && join_picks(state, &k) == 0) {
        we_array shape = picked_shape(&k);
        out = we_native_array_new_like(state, k.view.dtype, &shape);
        if (out != NULL && move_picked(&k, out, true) < 0) {
            Py_CLEAR(out);
        }
    }
    parts_close(&k);
done:
    Py_XDECREF(x);
    Py_XDECREF(indices);
    return (PyObject *)out;
}

PyMethodDef we_native_index_functions[] = {
    {"take", (PyCFunction)(void (*)(void))native_take, METH_FASTCALL | METH_KEYWORDS,
     "take($module, x, indices, /, axis=None)\n--\n\nTake elements along an axis by their indices."},
    {"take_along_axis", (PyCFunction)(void (*)(void))native_take_along_axis, METH_FASTCALL | METH_KEYWORDS,
     "take_along_axis($module, x, indices, /, axis=-1)\n--\n\nTake elements along an axis, others at each "
     "place."},
    {0},
};
