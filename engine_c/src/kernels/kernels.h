/* Kernel types and the dispatch table. A kernel sees one tile or run of elements, allocates nothing, knows no
 * graph. The table is filled reference first, then each usable ISA overwrites what it does better. */
#ifndef WE_KERNELS_KERNELS_H
#define WE_KERNELS_KERNELS_H

#include <stdbool.h>

#include <walle/engine.h>

#include "base/cpu.h"

typedef enum we_unary_fn {
#define WE_UNARY_FN(Name, name, formula) WE_UNARY_##Name,
#include "kernels/unary_fns.inc"
#undef WE_UNARY_FN
    WE_UNARY_COUNT
} we_unary_fn;

/* Arithmetic first, then comparisons (see we_binary_is_compare). */
typedef enum we_binary_fn {
#define WE_BINARY_FN(Name, name, floating, integer) WE_BINARY_##Name,
#include "kernels/binary_fns.inc"
#undef WE_BINARY_FN
#define WE_INTEGER_FN(Name, name, formula) WE_BINARY_##Name,
#include "kernels/binary_fns.inc"
#undef WE_INTEGER_FN
    WE_BINARY_ARITHMETIC_COUNT,
    WE_BINARY_BEFORE_COMPARE = WE_BINARY_ARITHMETIC_COUNT - 1,
#define WE_COMPARE_FN(Name, name, formula) WE_BINARY_##Name,
#include "kernels/binary_fns.inc"
#undef WE_COMPARE_FN
    WE_BINARY_COUNT
} we_binary_fn;

typedef enum we_reduce_fn {
#define WE_REDUCE_FN(Name, name, start, step) WE_REDUCE_##Name,
#include "kernels/reduce_fns.inc"
#undef WE_REDUCE_FN
    WE_REDUCE_COUNT
} we_reduce_fn;

typedef void (*we_unary_kernel)(int64_t n, const void *x, void *y);
typedef void (*we_binary_kernel)(int64_t n, const void *a, int64_t a_step, const void *b, int64_t b_step,
                                 void *y);
typedef void (*we_reduce_kernel)(int64_t k, int64_t inner, const void *x, void *y);

/* What happens to a finished tile. Pointers are at the tile's first row or column; NULL where absent. */
typedef struct we_epilogue {
    const float *row_bias, *column_bias;
    bool relu;
    float ceiling;         /* of what relu leaves; 0: none */
    const float *residual; /* added before relu; at the tile, row stride as C */
} we_epilogue;

/* C[0..m, 0..n] (+)= A·B over k, m <= rows, n <= columns of the kernel's tile.
 * a: packed [k][rows], b: packed [k][columns], padded with zeros to the full tile; c: row stride ldc
 * elements. accumulate: add to what C holds. epilogue: NULL, or applied after the sum. a, b and c must not
 * overlap. No alignment. */
typedef void (*we_matmul_kernel)(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t m,
                                 int32_t n, bool accumulate, const we_epilogue *epilogue);

typedef struct we_matmul_row {
    const char *name;
    we_isa isa;
    int32_t rows, columns;
    we_matmul_kernel kernel;
} we_matmul_row;

/* Where a window reads of a stored plane: tap t of output (i, j) at x[i * x_row + j + offsets[t]]. Up to
 * WE_TAPS_SLACK elements past the last column are read. */
typedef struct we_taps {
    int64_t rows, columns, x_row, y_row; /* of outputs; row strides */
    int32_t count;
    const int32_t *offsets;
} we_taps;

enum {
    WE_TAPS_SLACK = 15,
};

/* y[i * y_row + j] = reduction over the taps, NaN where any is. x and y must not overlap. No alignment. */
typedef void (*we_window_kernel)(const we_taps *taps, const float *x, float *y);

/* y[i * y_row + j] = bias + sum over taps of weights[t] * its element, plus the residual (laid out as y, NULL
 * where absent), then relu, then the ceiling. x and y must not overlap. No alignment. */
typedef struct we_depthwise {
    we_taps taps;
    const float *weights, *residual;
    float bias;
    bool relu;
    float ceiling; /* as in we_epilogue */
} we_depthwise;
typedef void (*we_depthwise_kernel)(const we_depthwise *filter, const float *x, float *y);

/* One row: y = softmax(factor * x + added) over k >= 1 elements; added: NULL where absent. masked: a row of
 * nothing but -infinity gives zeros, not NaN. y may be x. */
typedef struct we_softmax {
    int64_t k;
    float factor;
    const float *added;
    bool masked;
} we_softmax;
typedef void (*we_softmax_kernel)(const we_softmax *how, const float *x, float *y);

/* One row: y = (x - mean) * inverse * scale + bias over k >= 1 elements, inverse = 1 / sqrt(mean of (x -
 * mean)^2 + epsilon); uncentred, the mean is left out (0). scale and bias: NULL where absent. y may be x. */
typedef struct we_norm {
    int64_t k;
    float epsilon;
    bool centred;
    const float *scale, *bias;
} we_norm;
typedef struct we_moments {
    float mean, inverse;
} we_moments;
typedef we_moments (*we_norm_kernel)(const we_norm *how, const float *x, float *y);

typedef struct we_kernels {
    uint32_t isas;                                         /* bit set of we_isa */
    we_unary_kernel unary[WE_UNARY_COUNT][WE_DTYPE_COUNT]; /* NULL where the dtype has none */
    we_binary_kernel binary[WE_BINARY_COUNT][WE_DTYPE_COUNT];
    we_reduce_kernel reduce[WE_REDUCE_COUNT][WE_DTYPE_COUNT];
    we_depthwise_kernel depthwise;
    we_window_kernel window_max;
    we_softmax_kernel softmax;
    we_norm_kernel norm;
} we_kernels;

/* The process's table, filled at first use. CONFIG where WALLE_ENGINE_ISA is wrong. */
we_status we_kernels_get(const we_kernels **out, we_error *err);
void we_kernels_fill(uint32_t isas, we_kernels *out);

/* All float32 matmul micro-kernels, usable or not. */
size_t we_matmul_rows(const we_matmul_row **out);

static inline bool we_binary_is_compare(we_binary_fn fn) {
    return fn >= WE_BINARY_ARITHMETIC_COUNT;
}
const char *we_unary_name(we_unary_fn fn);
const char *we_binary_name(we_binary_fn fn);
const char *we_reduce_name(we_reduce_fn fn);

/* Every kernel of every table. */
#define WE_UNARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, ulps)                                              \
    void we_##dt##_unary_##name##__##isa(int64_t n, const void *x, void *y);
#include "kernels/unary.inc"
#undef WE_UNARY_KERNEL_ROW
#define WE_BINARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    void we_##dt##_binary_##name##__##isa(int64_t n, const void *a, int64_t a_step, const void *b,           \
                                          int64_t b_step, void *y);
#include "kernels/binary.inc"
#undef WE_BINARY_KERNEL_ROW
#define WE_REDUCE_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    void we_##dt##_reduce_##name##__##isa(int64_t k, int64_t inner, const void *x, void *y);
#include "kernels/reduce.inc"
#undef WE_REDUCE_KERNEL_ROW
#define WE_MATMUL_KERNEL_ROW(ISA, isa, DT, dt, rows, columns)                                                \
    void we_##dt##_matmul_##rows##x##columns##__##isa(int64_t k, const float *a, const float *b, float *c,   \
                                                      int64_t ldc, int32_t m, int32_t n, bool accumulate,    \
                                                      const we_epilogue *epilogue);
#include "kernels/matmul.inc"
#undef WE_MATMUL_KERNEL_ROW
#define WE_DEPTHWISE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    void we_##dt##_depthwise__##isa(const we_depthwise *filter, const float *x, float *y);
#include "kernels/depthwise.inc"
#undef WE_DEPTHWISE_KERNEL_ROW
#define WE_WINDOW_KERNEL_ROW(ISA, isa, DT, dt, Name, name)                                                   \
    void we_##dt##_window_##name##__##isa(const we_taps *taps, const float *x, float *y);
#include "kernels/window.inc"
#undef WE_WINDOW_KERNEL_ROW
#define WE_SOFTMAX_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    void we_##dt##_softmax__##isa(const we_softmax *how, const float *x, float *y);
#include "kernels/softmax.inc"
#undef WE_SOFTMAX_KERNEL_ROW
#define WE_NORM_KERNEL_ROW(ISA, isa, DT, dt)                                                                 \
    we_moments we_##dt##_norm__##isa(const we_norm *how, const float *x, float *y);
#include "kernels/norm.inc"
#undef WE_NORM_KERNEL_ROW

#endif
