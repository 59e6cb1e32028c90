/* Arithmetic on arrays: what the Python array type is built on. Same rules as engine.h.
 *
 *  - A we_array is a strided view of memory that somebody else owns; strides are bytes, of any sign, 0
 * allowed.
 *  - Functions read their inputs in any dtype that converts to the one they compute in, and write `out` in
 * its dtype; its shape is the result's. Inputs broadcast to it.
 *  - `out` may share memory with an input: where the two do not coincide, the input is copied first.
 *  - Large work is shared with the process's crew of threads. */
#ifndef WALLE_ARRAY_H
#define WALLE_ARRAY_H

#include "engine.h"

typedef enum we_array_dtype {
#define WE_ARRAY_DTYPE_ROW(NAME, name, type, kind, format, block, per) WE_ARRAY_##NAME,
#include "array_dtypes.inc"
#undef WE_ARRAY_DTYPE_ROW
    WE_ARRAY_DTYPE_COUNT
} we_array_dtype;

/* The functions: WE_ARRAY_UNARY_sqrt, WE_ARRAY_BINARY_add, WE_ARRAY_REDUCE_sum, ... */
#define WE_ARRAY_ROW(function, class, result, ...)
typedef enum we_array_unary_fn {
#define WE_ARRAY_FN(function) WE_ARRAY_UNARY_##function,
#include "array_unary.inc"
#undef WE_ARRAY_FN
    WE_ARRAY_UNARY_COUNT
} we_array_unary_fn;
typedef enum we_array_binary_fn {
#define WE_ARRAY_FN(function) WE_ARRAY_BINARY_##function,
#include "array_binary.inc"
#undef WE_ARRAY_FN
    WE_ARRAY_BINARY_COUNT
} we_array_binary_fn;
typedef enum we_array_reduce_fn {
#define WE_ARRAY_FN(function, joins) WE_ARRAY_REDUCE_##function,
#include "array_reduce.inc"
#undef WE_ARRAY_FN
    WE_ARRAY_REDUCE_COUNT
} we_array_reduce_fn;
#undef WE_ARRAY_ROW

typedef struct we_array {
    we_array_dtype dtype;
    int32_t rank;
    int64_t dims[WE_MAX_RANK], strides[WE_MAX_RANK];
    char *data;
} we_array;

/* A block as we_block_new makes it, but its contents are undefined: for what is written whole at once. */
WE_API we_status we_block_new_dirty(we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out,
                                    we_error *err);

WE_API const char *we_array_dtype_name(we_array_dtype dtype);
WE_API char we_array_dtype_kind(we_array_dtype dtype);
WE_API int64_t we_array_dtype_size(we_array_dtype dtype); /* bytes */

/* What a function computes a dtype in and what comes of it; 0 where it has no meaning for the dtype. */
typedef struct we_array_types {
    we_array_dtype computed, result;
} we_array_types;
WE_API int we_array_unary_types(we_array_unary_fn fn, we_array_dtype dtype, we_array_types *out);
WE_API int we_array_binary_types(we_array_binary_fn fn, we_array_dtype dtype, we_array_types *out);
WE_API const char *we_array_unary_name(we_array_unary_fn fn);
WE_API const char *we_array_binary_name(we_array_binary_fn fn);

/* out = fn(x). */
WE_API we_status we_array_unary(we_array_unary_fn fn, const we_array *x, const we_array *out, we_error *err);
/* out = fn(x, y), both taken as `dtype`. */
WE_API we_status we_array_binary(we_array_binary_fn fn, we_array_dtype dtype, const we_array *x,
                                 const we_array *y, const we_array *out, we_error *err);
/* out = x where the condition holds, else y; both taken as out's dtype. */
WE_API we_status we_array_where(const we_array *condition, const we_array *x, const we_array *y,
                                const we_array *out, we_error *err);
/* out = x kept within low and high; all taken as out's dtype. NaN stays, and a bound that is NaN gives NaN.
 */
WE_API we_status we_array_clip(const we_array *x, const we_array *low, const we_array *high,
                               const we_array *out, we_error *err);
/* `result` is what the reduction has by default; sums of small integers are of 64 bits. */
WE_API int we_array_reduce_types(we_array_reduce_fn fn, we_array_dtype dtype, we_array_types *out);
/* Reduce the axes whose bits are set, taking x as `dtype`; out has the other dims. The results are divided by
 * a divisor other than 1. Sums of float32 are kept in float64 meanwhile. */
WE_API we_status we_array_reduce(we_array_reduce_fn fn, we_array_dtype dtype, const we_array *x,
                                 uint32_t axes, double divisor, const we_array *out, we_error *err);
/* Along the last axis: where its first largest or smallest element is, or its first NaN (fn: max, min; out:
 * int64, without the axis), or running sums and products (in out's dtype). */
WE_API we_status we_array_find(we_array_reduce_fn fn, const we_array *x, const we_array *out, we_error *err);
WE_API we_status we_array_accumulate(we_array_reduce_fn fn, const we_array *x, const we_array *out,
                                     we_error *err);
/* The sum of (x - mean)^2 over a dense array of real numbers. */
WE_API we_status we_array_spread(const we_array *x, double mean, double *out, we_error *err);
/* out = x * y, matrices of one dtype: x is [m, k], y [k, n], out [m, n] and dense. It must not overlap the
 * others. */
WE_API we_status we_array_product(const we_array *x, const we_array *y, const we_array *out, we_error *err);
/* Move elements between parts + offsets[i] and the i-th of a dense array: `out` of the parts, or into them.
 */
WE_API we_status we_array_gather(const int64_t *offsets, int64_t count, we_array_dtype dtype, char *parts,
                                 char *dense, int out, we_error *err);
/* The same for whole views: `part` moved by offsets[i] bytes, and `row` by i * step; both have the same dims.
 */
WE_API we_status we_array_gather_parts(const int64_t *offsets, int64_t count, const we_array *part,
                                       const we_array *row, int64_t step, int out, we_error *err);
/* out = x, converted and broadcast. Any dtype converts to any: to bool by "is not 0", from complex by its
 * real part. */
WE_API we_status we_array_copy(const we_array *x, const we_array *out, we_error *err);

#endif
