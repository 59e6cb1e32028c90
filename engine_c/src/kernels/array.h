/* Kernels of arrays: a run of elements in one dtype. One table per instruction set, all made from
 * simd/array_loops.h; the functions and their formulas are rows of walle/array_{unary,binary,reduce}.inc.
 *
 * Contracts: elements lie together, no alignment. Results may be the same pointer as an operand whose
 * elements are as large, not otherwise overlap. */
#ifndef WE_KERNELS_ARRAY_H
#define WE_KERNELS_ARRAY_H

#include <walle/array.h>

typedef void (*we_array_unary_kernel)(int64_t n, const void *x, void *out);
typedef void (*we_array_binary_kernel)(int64_t n, const void *x, const void *y, void *out);
/* out[i] = x[i] between y[i] and z[i], NaN stays; or where(x[i], y[i], z[i]). */
typedef void (*we_array_ternary_kernel)(int64_t n, const void *x, const void *y, const void *z, void *out);
/* result = step(result, every element). n >= 0. */
typedef void (*we_array_reduce_kernel)(int64_t n, const void *x, void *result);
/* out[i] = result after the steps from `state` through x[0..i]; state is left at the last. */
typedef void (*we_array_accumulate_kernel)(int64_t n, const void *x, void *out, void *state);
/* Where the first largest (smallest) is, or the first NaN. n >= 1. */
typedef int64_t (*we_array_find_kernel)(int64_t n, const void *x);
/* The sum of |x[i] - centre|^2; centre in the dtype WIDE gives, the sum in its real dtype. */
typedef void (*we_array_spread_kernel)(int64_t n, const void *x, const void *centre, double *sum);

/* y[i] += factor * x[i]; the sum of x[i] * y[i]. */
typedef void (*we_array_axpy_kernel)(int64_t n, const void *factor, const void *x, void *y);
typedef void (*we_array_dot_kernel)(int64_t n, const void *x, const void *y, void *result);

enum { /* places of rows past the reductions */
       WE_ARRAY_FINDS = 2,
       WE_ARRAY_WIDTHS = 5, /* of elements: 1, 2, 4, 8, 16 bytes */
};

typedef struct we_array_kernels {
    we_array_unary_kernel unary[WE_ARRAY_UNARY_COUNT]
                               [WE_ARRAY_DTYPE_COUNT]; /* NULL where the dtype has none */
    we_array_binary_kernel binary[WE_ARRAY_BINARY_COUNT][WE_ARRAY_DTYPE_COUNT];
    we_array_reduce_kernel reduce[WE_ARRAY_REDUCE_COUNT][WE_ARRAY_DTYPE_COUNT];
    we_array_unary_kernel cast[WE_ARRAY_DTYPE_COUNT][WE_ARRAY_DTYPE_COUNT]; /* [from][to] */
    we_array_ternary_kernel clip[WE_ARRAY_DTYPE_COUNT];
    we_array_ternary_kernel where[WE_ARRAY_WIDTHS]; /* by log2 of the size */
    we_array_accumulate_kernel accumulate[WE_ARRAY_REDUCE_COUNT]
                                         [WE_ARRAY_DTYPE_COUNT];     /* sum and prod, SAME */
    we_array_find_kernel find[WE_ARRAY_FINDS][WE_ARRAY_DTYPE_COUNT]; /* max, min */
    we_array_spread_kernel spread[WE_ARRAY_DTYPE_COUNT];
    we_array_axpy_kernel axpy[WE_ARRAY_DTYPE_COUNT];
    we_array_dot_kernel dot[WE_ARRAY_DTYPE_COUNT];
} we_array_kernels;

extern const we_array_kernels we_array_kernels__ref;
#if defined(WE_HAVE_X86)
extern const we_array_kernels we_array_kernels__avx2, we_array_kernels__avx512;
#endif
#if defined(WE_HAVE_ARM)
extern const we_array_kernels we_array_kernels__neon;
#endif

/* The best table this CPU may use. CONFIG where WALLE_ENGINE_ISA is wrong. */
we_status we_array_kernels_get(const we_array_kernels **out, we_error *err);

#endif
