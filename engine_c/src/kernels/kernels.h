/* Kernel types and the dispatch table. A kernel sees one tile or run of elements, allocates nothing, knows no
 * graph. The table is filled reference first, then each usable ISA overwrites what it does better. */
#ifndef WE_KERNELS_KERNELS_H
#define WE_KERNELS_KERNELS_H

#include <stdbool.h>

#include <walle/engine.h>

#include "base/cpu.h"
#include "kernels/bytes.h"

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

/* One tile of a product whose rows of A are read where they lie: k = runs * depth, and
 *   C[i, j] (+)= sum over r < runs, p < depth of rows[r * m + i][p] * b[(r * depth + p) * columns + j]
 * for i < m <= the kernel's rows and j < n <= its columns. A plain matrix is one run; a convolution has a run
 * for every tap. b is packed in panels of the kernel's columns, with zeros past n. C must not overlap the
 * operands. No alignment. */
typedef struct we_tile {
    int64_t runs, depth;
    const float *const *rows; /* [runs][m] */
    const float *b;
    float *c;
    int64_t ldc; /* elements between rows of C */
    int32_t m, n;
    bool accumulate; /* sums start from what C holds; else from a bias, where there is one */
    const float *row_bias, *column_bias; /* of the tile's first row or column; NULL where absent */
    const float *residual;               /* laid out as the result, added to the sum; NULL where absent */
    float low, high;                     /* then the result is kept within; NaN stays. -INFINITY, INFINITY */
    /* Kernels of one part: the result goes here as bfloat16, `narrow_row` elements between rows, and C holds
     * no more than what sums start from; NULL: it goes to C. */
    uint16_t *narrow;
    int64_t narrow_row;
    const uint16_t *narrow_residual; /* likewise, of bfloat16, in the place of `residual` */
    const float *ahead; /* `runs * depth` cache lines from here on are wanted soon; any address will do */
} we_tile;

typedef void (*we_matmul_kernel)(const we_tile *tile);

enum {
    WE_TILE_ROWS = 32,    /* of any kernel, at most */
    WE_TILE_COLUMNS = 64, /* likewise */
    WE_TILE_RUNS = 64,    /* of one call, at most */
    WE_PARTS = 3,         /* likewise: three bfloat16 hold a float32 */
    WE_PART_WORDS = 16,   /* see we_matmul_row */
    WE_EVEN_ROWS = 16,    /* likewise */
    WE_COUPLE = 2,        /* the granule of kernels that take two words of a column at once */
};

/* Split operands: x = the sum of its parts, each the bfloat16 nearest to what those before it leave (ties to
 * even). Parts that would be denormal are zeros of their sign, as the instructions have it. Two neighbours
 * along k share a word of 32 bits, the first in its low half. Both functions return the largest magnitude
 * among the elements as bits of a float32, so that infinities and NaN come out largest.
 * split: part p of n elements of a row, to `words` >= n / 2 words from to + p * part on; the rest are zeros.
 * pair: word j of part p, at to[p * part + j], holds even[j] and odd[j]. Nothing may overlap. */
typedef struct we_split {
    uint32_t (*split)(int32_t parts, int64_t n, const float *x, int64_t words, float *to, int64_t part);
    uint32_t (*pair)(int32_t parts, int64_t n, const float *even, const float *odd, float *to, int64_t part);
} we_split;

/* A kernel of float32 has parts = 0. Any other takes split operands as we_tile's rows and b, with depth in
 * words, a multiple of the granule, and adds the products of parts p and q for p + q < parts: one, three or
 * six. rows are [runs][m] where there is one part, else [parts][m] with runs = 1. b is packed, run by run, as
 *   [depth / WE_PART_WORDS][parts][WE_PART_WORDS][columns], or [depth][columns] where there is one part, or
 *   [depth / 2][columns][2] where the granule is 2.
 * With a granule of 1 or 2, rows may lie anywhere. Else each WE_EVEN_ROWS of them lie evenly apart, and as
 * many are read even if m ends before. */
typedef struct we_matmul_row {
    const char *name;
    we_isa isa;
    int32_t rows, columns, parts, granule;
    we_matmul_kernel kernel;
    we_split split;
    const struct we_matmul_row
        *exact; /* of several parts: for operands outside the limits; as many columns */
    void (*open)(void), (*close)(void); /* around the calls of a thread; NULL: nothing to do */
} we_matmul_row;

static inline bool we_wants_even_rows(const we_matmul_row *row) {
    return row->granule > WE_COUPLE;
}

/* A stretch of outputs along a row of an image whose channels lie together: output i is y[i * y_step + c],
 * and its tap (row, column) sees x[i * x_step + row * x_row + column * x_column + c]. Taps outside the image
 * are left out beforehand, so all that is named may be read. */
typedef struct we_stretch {
    int64_t channels, count;
    int32_t rows, columns; /* of taps */
    int64_t x_step, x_row, x_column, y_step;
} we_stretch;

/* Images x and y of these and of the next kernels are of float32 or bfloat16, as the row says; what is
 * computed is float32, and a result is rounded once, as a part (see we_split).
 *
 * y = the largest over the taps, NaN where any is; -INFINITY where there are none. x and y must not overlap.
 * No alignment. */
typedef void (*we_window_kernel)(const we_stretch *s, const void *x, void *y);

/* y = bias + sum over taps of weights[row * w_row + column * channels + c] * its element, plus the residual
 * (laid out and typed as y), kept within low and high as in we_tile. x and y must not overlap. No alignment.
 */
typedef struct we_depthwise {
    we_stretch stretch;
    int64_t w_row;
    const float *weights, *bias; /* bias and residual: NULL where absent */
    const void *residual;
    float low, high;
} we_depthwise;
typedef void (*we_depthwise_kernel)(const we_depthwise *filter, const void *x, void *y);

/* Windows over one plane of an image, whose rows lie behind one another, for the rows [first, end) of
 * outputs. Output (o, i) sees, of every dim, the places o * step - pad + tap * dilation for tap < taps (see
 * we_plane_seen) that are inside; x and y are the whole planes, which must not overlap.
 * largest: of what is seen, NaN where any is; -INFINITY where nothing is.
 * mean: the sum, times row_shares[rows seen] and column_shares[i].
 * filter: bias + sum over taps of weights[row of taps * taps[1] + column] * its element, plus the residual
 * (laid out as y), kept within low and high as in we_tile.
 * scratch has room for we_plane_scratch floats, whose rows are `width` apart; no alignment. */
enum {
    WE_PLANE_TAPS = 64, /* along a dim, at most */
};
typedef struct we_plane {
    int64_t in[2], out[2]; /* rows, columns */
    int64_t taps[2], step[2], dilation[2], pad[2];
    int64_t first, end;
    int64_t width;
    float *scratch;
    const float *row_shares, *column_shares; /* of a mean */
    const float *weights, *residual;         /* of a filter; residual may be NULL */
    float bias, low, high;
} we_plane;
typedef void (*we_plane_kernel)(const we_plane *p, const float *x, float *y);

/* The place along dim i that a tap of output `at` sees; it may lie outside. */
static inline int64_t we_plane_seen(const we_plane *p, int i, int64_t at, int64_t tap) {
    return at * p->step[i] - p->pad[i] + tap * p->dilation[i];
}

/* `width` of such planes: columns of one remainder, and room for whole vectors behind them. */
static inline int64_t we_plane_width(const we_plane *p) {
    int64_t held = p->pad[1] + p->in[1],
            seen = (p->out[1] - 1) * p->step[1] + (p->taps[1] - 1) * p->dilation[1];
    return ((held > seen ? held : seen) / p->step[1] + 3 * 16) / 16 * 16;
}

/* Floats of scratch for that many rows of outputs: rows of the plane for a filter, of outputs for others. */
static inline int64_t we_plane_scratch(const we_plane *p, int64_t rows) {
    int64_t seen = (rows - 1) * p->step[0] + (p->taps[0] - 1) * p->dilation[0] + 1;
    seen = seen < p->in[0] ? seen : p->in[0];
    return (p->weights ? seen : rows) * p->step[1] * we_plane_width(p);
}

/* As a depthwise filter, where every output sees the channels of its group: y[c] = bias[c] + sum over taps
 * and j < size of weights[row * w_row + (column * size + j) * channels + c] times the tap's element of
 * channel j of c's group, plus the residual, kept within low and high. Groups have as many outputs as inputs:
 * 2, 4, 8 or 16. */
enum {
    WE_GROUP_MOST = 16,
};
typedef struct we_grouped {
    we_stretch stretch;
    int64_t w_row;
    const float *weights, *bias, *residual; /* bias and residual: NULL where absent */
    float low, high;
    int32_t size;
} we_grouped;
typedef void (*we_grouped_kernel)(const we_grouped *filter, const float *x, float *y);

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
 * mean)^2 + epsilon); uncentred, the mean is left out (0). scale and bias: NULL where absent; `plane`
 * elements in a row share one of each (k is a multiple of it). y may be x. */
typedef struct we_norm {
    int64_t k, plane;
    float epsilon;
    bool centred;
    const float *scale, *bias;
} we_norm;
typedef struct we_moments {
    float mean, inverse;
} we_moments;
typedef we_moments (*we_norm_kernel)(const we_norm *how, const float *x, float *y);

/* A few rows times one panel of a packed matrix, for vectors and steps of recurrences, where reading the
 * matrix is what costs: y[r, j] = start[r, j] + sum over p < k of x[r, p] * w[p * columns + j], j < count <=
 * the kernel's columns. w is padded to whole rows of a panel. start: NULL for 0; it may be y. y must not
 * overlap x or w. A kernel of bfloat16 rounds x as a part, and its w has words of pairs along k (see
 * we_split), [k / 2, rounded up][columns], with a zero behind an odd k. */
typedef struct we_gemv {
    int64_t k, rows;
    const float *x, *w, *start;
    float *y;
    int64_t x_row, start_row, y_row; /* elements between rows */
    int32_t count;
} we_gemv;
typedef void (*we_gemv_kernel)(const we_gemv *g);

/* A panel of a matrix that is kept in codes of 8 or 4 bits: w[p][j] = (code[p][j] - zeros[p / block][j]) *
 * scales[p / block][j] for p < k and j < the kernel's columns, which all arrays are padded to. Codes of 8
 * bits are a byte each, [k][columns]; of 4 bits two lie in a byte, [k / 2, rounded up][columns], the one of
 * even p in its lower half. block is even. zeros: NULL for the middle of all codes, 128 or 8. gemv: y[r, j] =
 * sum over p of x[r, p] * w[p][j], j < count <= columns, for a few rows, where reading the matrix is what
 * costs. expand: to[i * columns + j] = w[from + i][j], i < count, from even: a panel for we_gemv. No overlap,
 * no alignment. */
typedef struct we_coded {
    int64_t k, block;
    const uint8_t *codes;
    const float *scales, *zeros; /* [k / block, rounded up][columns] */
} we_coded;
typedef struct we_coded_kernels {
    void (*gemv)(const we_coded *w, int64_t rows, const float *x, int64_t x_row, float *y, int64_t y_row,
                 int32_t count);
    void (*expand)(const we_coded *w, int64_t from, int64_t count, float *to);
    int32_t columns; /* of its panels, as many as those of float32 for gemv have */
} we_coded_kernels;

/* The two ends of Winograd's convolution with filters of 3 x 3 (source: Lavin and Gray, Fast Algorithms for
 * Convolutional Neural Networks, 2015): a patch of size x size positions, size = outputs + 2, becomes size *
 * size values that are multiplied by transformed filters, and the sums over channels become outputs x outputs
 * positions. Outputs is 2, 4 or 6. */
enum {
    WE_WINOGRAD_SIZE = 8, /* the largest patch */
};

/* v[p * plane + c] = (Bt d B)[p] for every channel, d[p] = patch[p][c]. v must not overlap the patch. */
typedef void (*we_winograd_in_kernel)(int32_t outputs, int64_t channels, const void *const *patch, float *v,
                                      int64_t plane);

/* to[p][c] = (At m A)[p] + bias[c] + residual[p][c], kept within low and high, m[p] = from[p * plane + c]; a
 * place of `to` that is NULL is left out. bias and residual: NULL where absent. */
typedef struct we_winograd_out {
    int64_t channels, plane;
    const float *from, *bias;
    void *const *to;             /* [outputs][outputs] */
    const void *const *residual; /* likewise */
    float low, high;
} we_winograd_out;
typedef void (*we_winograd_out_kernel)(int32_t outputs, const we_winograd_out *o);

/* out[i * out_row + j] = in[j * in_row + i] for i < rows, j < columns: elements of 4 bytes, moved as they
 * are. in and out must not overlap. No alignment. */
typedef void (*we_transpose_kernel)(int64_t rows, int64_t columns, const uint32_t *in, int64_t in_row,
                                    uint32_t *out, int64_t out_row);

/* y[j] = the place i of the largest or smallest of x[i * step + j], i < k, for j < count; 1 <= k < 2^24. NaN
 * counts as the most extreme; of equals the first, or the last. */
typedef struct we_arg {
    int64_t k, step, count;
    bool largest, last;
} we_arg;
typedef void (*we_arg_kernel)(const we_arg *how, const float *x, int64_t *y);

/* A row of `length` elements resized: y[i] = sum over j < taps of weights[j * count + i] * x[at[j * count +
 * i]] for i < count, or y[i] = x[at[i]] where weights is NULL (taps is 1). at ascends along both. No overlap.
 */
typedef struct we_resample {
    int64_t count, taps, length;
    const int32_t *at;
    const float *weights;
} we_resample;
typedef void (*we_resample_kernel)(const we_resample *how, const float *x, float *y);

/* A plane of single elements: y[row * columns + i] = x[row_at[row] * in[1] + column_at[i]] for row < rows and
 * i < columns; x has in[0] rows of in[1], column_at ascends. No overlap. */
typedef struct we_picks {
    int64_t rows, columns, in[2];
    const int32_t *row_at, *column_at;
} we_picks;
typedef void (*we_pick_kernel)(const we_picks *how, const float *x, float *y);

/* y[i] = sum over j < taps of weights[j * step] * rows[j][i], i < n, or the largest of them likewise. y
 * overlaps no row. */
typedef void (*we_mix_kernel)(int64_t n, int64_t taps, const float *const *rows, const float *weights,
                              int64_t step, float *y);

/* out[j] = start + j * step + i * by for j < count, i = index[j * stride], from the end where negative. False
 * where some i is outside [0, extent); then `out` means nothing. */
typedef struct we_place {
    int64_t count, stride, extent, by, start, step;
} we_place;
typedef bool (*we_place_kernel)(const we_place *p, const int64_t *index, int64_t *out);

/* y[i] = condition[i] ? yes[i * yes_step] : no[i * no_step] for i < n; y may be an operand of step 1. */
typedef void (*we_select_kernel)(int64_t n, const uint8_t *condition, const uint32_t *yes, int64_t yes_step,
                                 const uint32_t *no, int64_t no_step, uint32_t *y);
/* Dense linear algebra on rows of one real type; no alignment.
 * dot: the sum of x[i] * y[i], in any order. add: y += a * x; the two must not overlap.
 * turn: `count` plane rotations of neighbouring rows, one after the other: rows k and k + 1, `step` elements
 * apart (may be negative), become c[k] * row_k + s[k] * row_k+1 and c[k] * row_k+1 - s[k] * row_k. tile: c[i
 * * ldc + j] += sign * sum over p < k of a[p * rows + i] * b[p * columns + j] for i < m <= rows and j < n <=
 * columns; packed operands are padded to whole tiles. c must not overlap a or b. */
#define WE_DENSE_TYPE(dtype, real)                                                                           \
    typedef struct we_##dtype##_dense {                                                                      \
        int32_t rows, columns; /* of a tile */                                                               \
        real (*dot)(int64_t n, const real *x, const real *y);                                                \
        void (*add)(int64_t n, real a, const real *x, real *y);                                              \
        void (*turn)(int64_t columns, int64_t count, const real *cosines, const real *sines, real *x,        \
                     int64_t step);                                                                          \
        void (*tile)(int64_t k, const real *a, const real *b, real sign, real *c, int64_t ldc, int32_t m,    \
                     int32_t n);                                                                             \
    } we_##dtype##_dense;
WE_DENSE_TYPE(f32, float)
WE_DENSE_TYPE(f64, double)

/* sort: keys in rising order. partition: those up to the pivot first; returns how many they are. In place; no
 * alignment. */
#define WE_SORT_TYPE(dtype, type)                                                                            \
    typedef struct we_##dtype##_sort {                                                                       \
        void (*sort)(int64_t n, type *keys);                                                                 \
        int64_t (*partition)(int64_t n, type *keys, type pivot);                                             \
    } we_##dtype##_sort;
WE_SORT_TYPE(i32, int32_t)
WE_SORT_TYPE(i64, int64_t)

/* One pass of Stockham's Fourier transform, real and imaginary parts apart (source: Van Loan, Computational
 * Frameworks for the Fast Fourier Transform, 1992): for begin <= p < end, first <= q < last (within s) and k
 * < radix, to[q + s * (radix * p + k)] = w[k][p] * sum over j < radix of from[q + s * (p + m * j)] * e^(-2 pi
 * i j k / radix) with w[0] = 1, w[k][p] = cosines[(k - 1) * m + p] + i * sines[(k - 1) * m + p]. No
 * alignment; nothing overlaps. The radix is 2, 3, 4, 5, 7, 8, 11 or 13. */
enum {
    WE_FFT_RADIX = 13, /* the largest */
};
#define WE_FFT_TYPE(dtype, real)                                                                             \
    typedef struct we_##dtype##_fft_pass {                                                                   \
        int32_t radix;                                                                                       \
        int64_t m, s, first, last;                                                                           \
        const real *cosines, *sines, *re, *im;                                                               \
        real *to_re, *to_im;                                                                                 \
    } we_##dtype##_fft_pass;                                                                                 \
    typedef void (*we_##dtype##_fft_kernel)(const we_##dtype##_fft_pass *pass, int64_t begin, int64_t end);
WE_FFT_TYPE(f32, float)
WE_FFT_TYPE(f64, double)

enum {
    WE_DENSE_TILE = 8 * 48, /* elements of any tile, at most */
};
/* What some kernels on rows of images take or give. The functions of WE_POINTWISE_: walle_task.cv has the
 * same list. */
enum {
    WE_POINTWISE_AND,
    WE_POINTWISE_OR,
    WE_POINTWISE_XOR,
    WE_POINTWISE_NOT,
    WE_POINTWISE_ABSDIFF,
    WE_POINTWISE_ADD,
    WE_POINTWISE_SUBTRACT,
    WE_POINTWISE_LEAST,
    WE_POINTWISE_MOST,
    WE_POINTWISE_COUNT
};
enum {
    WE_THRESHOLD_BINARY,
    WE_THRESHOLD_BINARY_INV,
    WE_THRESHOLD_TRUNCATE,
    WE_THRESHOLD_TO_ZERO,
    WE_THRESHOLD_TO_ZERO_INV
};
enum { WE_EDGE_MAYBE, WE_EDGE_NONE, WE_EDGE_SURE };
/* An image that `corners` places pixels in: `row` and `pixel` are the bytes from one to the next. */
typedef struct we_image_grid {
    int32_t width, height, row, pixel;
    int32_t most; /* offset of the upper left of four pixels, at most */
} we_image_grid;
enum { WE_OUTSIDE = INT32_MIN, WE_EDGE = INT32_MIN + 1 };

/* One function for every row WE_IMAGE_FN of image.inc, which says what it does. */
typedef struct we_image_kernels {
#define WE_IMAGE_FN(name, parameters) void(*name) parameters;
#include "kernels/image.inc"
#undef WE_IMAGE_FN
} we_image_kernels;

typedef struct we_kernels {
    uint32_t isas;                                         /* bit set of we_isa */
    we_unary_kernel unary[WE_UNARY_COUNT][WE_DTYPE_COUNT]; /* NULL where the dtype has none */
    we_binary_kernel binary[WE_BINARY_COUNT][WE_DTYPE_COUNT];
    we_reduce_kernel reduce[WE_REDUCE_COUNT][WE_DTYPE_COUNT];
    we_depthwise_kernel depthwise[WE_DTYPE_COUNT]; /* of images: F32 and BF16 */
    we_window_kernel window_max[WE_DTYPE_COUNT];
    we_unary_kernel cast[WE_DTYPE_COUNT][WE_DTYPE_COUNT]; /* from, to; NULL where there is none */
    we_grouped_kernel grouped;
    we_plane_kernel plane_largest, plane_mean, plane_filter;
    we_transpose_kernel transpose;
    we_winograd_in_kernel winograd_in[WE_DTYPE_COUNT];
    we_winograd_out_kernel winograd_out[WE_DTYPE_COUNT];
    we_softmax_kernel softmax;
    we_norm_kernel norm;
    we_arg_kernel arg;
    we_place_kernel place;
    we_select_kernel select;
    we_resample_kernel resample;
    we_mix_kernel mix;
    we_pick_kernel pick;
    we_gemv_kernel gemv[WE_DTYPE_COUNT];
    int32_t gemv_columns[WE_DTYPE_COUNT]; /* of its panels */
    we_coded_kernels coded[WE_DTYPE_COUNT];
    we_f32_dense f32_dense;
    we_f64_dense f64_dense;
    we_f32_fft_kernel f32_fft;
    we_f64_fft_kernel f64_fft;
    we_i32_sort i32_sort;
    we_i64_sort i64_sort;
    we_image_kernels image;
    we_byte_matmul byte_matmul;
    we_byte_depthwise_kernel byte_depthwise;
    we_byte_rows byte_rows;
} we_kernels;

/* The process's table, filled at first use. CONFIG where WALLE_ENGINE_ISA is wrong. */
we_status we_kernels_get(const we_kernels **out, we_error *err);
void we_kernels_fill(uint32_t isas, we_kernels *out);

/* All micro-kernels of float32 products, usable or not. */
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
    void we_##dt##_matmul_##rows##x##columns##__##isa(const we_tile *tile);
#define WE_SPLIT_MATMUL_KERNEL_ROW(ISA, isa, parts, rows, columns, granule, split, exact)                    \
    void we_bf16x##parts##_matmul_##rows##x##columns##__##isa(const we_tile *tile);
#include "kernels/matmul.inc"
#undef WE_MATMUL_KERNEL_ROW
#undef WE_SPLIT_MATMUL_KERNEL_ROW
void we_amx_open(void); /* around kernels of tile registers: their shape */
void we_amx_close(void);
#define WE_SPLIT_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    uint32_t we_##dt##_split__##isa(int32_t parts, int64_t n, const float *x, int64_t words, float *to,      \
                                    int64_t part);                                                           \
    uint32_t we_##dt##_pair__##isa(int32_t parts, int64_t n, const float *even, const float *odd, float *to, \
                                   int64_t part);
#include "kernels/split.inc"
#undef WE_SPLIT_KERNEL_ROW
#define WE_DEPTHWISE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    void we_##dt##_depthwise__##isa(const we_depthwise *filter, const void *x, void *y);
#include "kernels/depthwise.inc"
#undef WE_DEPTHWISE_KERNEL_ROW
#define WE_GROUPED_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    void we_##dt##_grouped__##isa(const we_grouped *filter, const float *x, float *y);
#include "kernels/grouped.inc"
#undef WE_GROUPED_KERNEL_ROW
#define WE_PLANE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    void we_##dt##_plane_largest__##isa(const we_plane *p, const float *x, float *y);                        \
    void we_##dt##_plane_mean__##isa(const we_plane *p, const float *x, float *y);                           \
    void we_##dt##_plane_filter__##isa(const we_plane *p, const float *x, float *y);
#include "kernels/plane.inc"
#undef WE_PLANE_KERNEL_ROW
#define WE_WINDOW_KERNEL_ROW(ISA, isa, DT, dt, Name, name)                                                   \
    void we_##dt##_window_##name##__##isa(const we_stretch *s, const void *x, void *y);
#include "kernels/window.inc"
#undef WE_WINDOW_KERNEL_ROW
#define WE_TRANSPOSE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    void we_##dt##_transpose__##isa(int64_t rows, int64_t columns, const uint32_t *in, int64_t in_row,       \
                                    uint32_t *out, int64_t out_row);
#include "kernels/transpose.inc"
#undef WE_TRANSPOSE_KERNEL_ROW
#define WE_WINOGRAD_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    void we_##dt##_winograd_in__##isa(int32_t outputs, int64_t channels, const void *const *patch, float *v, \
                                      int64_t plane);                                                        \
    void we_##dt##_winograd_out__##isa(int32_t outputs, const we_winograd_out *o);
#include "kernels/winograd.inc"
#undef WE_WINOGRAD_KERNEL_ROW
#define WE_SOFTMAX_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    void we_##dt##_softmax__##isa(const we_softmax *how, const float *x, float *y);
#include "kernels/softmax.inc"
#undef WE_SOFTMAX_KERNEL_ROW
#define WE_NORM_KERNEL_ROW(ISA, isa, DT, dt)                                                                 \
    we_moments we_##dt##_norm__##isa(const we_norm *how, const float *x, float *y);
#include "kernels/norm.inc"
#undef WE_NORM_KERNEL_ROW
#define WE_CAST_KERNEL_ROW(ISA, isa, FROM, from, TO, to)                                                     \
    void we_##from##_cast_##to##__##isa(int64_t n, const void *x, void *y);
#include "kernels/cast.inc"
#undef WE_CAST_KERNEL_ROW
#define WE_RESAMPLE_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    void we_##dt##_resample__##isa(const we_resample *how, const float *x, float *y);                        \
    void we_##dt##_pick__##isa(const we_picks *how, const float *x, float *y);                               \
    void we_##dt##_mix__##isa(int64_t n, int64_t taps, const float *const *rows, const float *weights,       \
                              int64_t step, float *y);
#include "kernels/resample.inc"
#undef WE_RESAMPLE_KERNEL_ROW
#define WE_PLACE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    bool we_##dt##_place__##isa(const we_place *p, const int64_t *index, int64_t *out);
#include "kernels/place.inc"
#undef WE_PLACE_KERNEL_ROW
#define WE_SELECT_KERNEL_ROW(ISA, isa, DT, dt)                                                               \
    void we_##dt##_select__##isa(int64_t n, const uint8_t *condition, const uint32_t *yes, int64_t yes_step, \
                                 const uint32_t *no, int64_t no_step, uint32_t *y);
#include "kernels/select.inc"
#undef WE_SELECT_KERNEL_ROW
#define WE_ARG_KERNEL_ROW(ISA, isa, DT, dt)                                                                  \
    void we_##dt##_arg__##isa(const we_arg *how, const float *x, int64_t *y);
#include "kernels/arg.inc"
#undef WE_ARG_KERNEL_ROW
#define WE_GEMV_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                        \
    void we_##dt##_gemv_##columns##__##isa(const we_gemv *g);
#include "kernels/gemv.inc"
#undef WE_GEMV_KERNEL_ROW
#define WE_CODED_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                       \
    void we_##dt##_coded_gemv_##columns##__##isa(const we_coded *w, int64_t rows, const float *x,            \
                                                 int64_t x_row, float *y, int64_t y_row, int32_t count);     \
    void we_##dt##_coded_expand_##columns##__##isa(const we_coded *w, int64_t from, int64_t count, float *to);
#include "kernels/coded.inc"
#undef WE_CODED_KERNEL_ROW
#define WE_DENSE_KERNEL_ROW(ISA, isa, DT, dt, real, rows, columns)                                           \
    real we_##dt##_dense_dot__##isa(int64_t n, const real *x, const real *y);                                \
    void we_##dt##_dense_add__##isa(int64_t n, real a, const real *x, real *y);                              \
    void we_##dt##_dense_turn__##isa(int64_t across, int64_t count, const real *cosines, const real *sines,  \
                                     real *x, int64_t step);                                                 \
    void we_##dt##_dense_tile__##isa(int64_t k, const real *a, const real *b, real sign, real *c,            \
                                     int64_t ldc, int32_t m, int32_t n);
#include "kernels/dense.inc"
#undef WE_DENSE_KERNEL_ROW
#define WE_SORT_KERNEL_ROW(ISA, isa, DT, dt, type)                                                           \
    void we_##dt##_sort__##isa(int64_t n, type *keys);                                                       \
    int64_t we_##dt##_partition__##isa(int64_t n, type *keys, type pivot);
#include "kernels/sort.inc"
#undef WE_SORT_KERNEL_ROW
#define WE_FFT_KERNEL_ROW(ISA, isa, DT, dt, real)                                                            \
    void we_##dt##_fft__##isa(const we_##dt##_fft_pass *pass, int64_t begin, int64_t end);
#include "kernels/fft.inc"
#undef WE_FFT_KERNEL_ROW
#define WE_BYTE_MATMUL_KERNEL_ROW(ISA, isa, rows, columns, signed_rows)                                      \
    void we_u8_byte_matmul_##rows##x##columns##__##isa(const we_byte_tile *tile);
#include "kernels/byte_matmul.inc"
#undef WE_BYTE_MATMUL_KERNEL_ROW
#define WE_BYTE_DEPTHWISE_KERNEL_ROW(ISA, isa)                                                               \
    void we_u8_byte_depthwise__##isa(const we_byte_depthwise *filter, const uint8_t *const *rows, uint8_t *y);
#include "kernels/byte_depthwise.inc"
#undef WE_BYTE_DEPTHWISE_KERNEL_ROW
#define WE_BYTE_ROWS_FN(name, parameters) void we_u8_rows_##name##__ref parameters;
#include "kernels/byte_rows.inc"
#undef WE_BYTE_ROWS_FN
#if defined(WE_HAVE_X86)
#define WE_BYTE_ROWS_FN(name, parameters) void we_u8_rows_##name##__avx2 parameters;
#include "kernels/byte_rows.inc"
#undef WE_BYTE_ROWS_FN
#define WE_BYTE_ROWS_FN(name, parameters) void we_u8_rows_##name##__avx512 parameters;
#include "kernels/byte_rows.inc"
#undef WE_BYTE_ROWS_FN
#endif
#if defined(WE_HAVE_ARM)
#define WE_BYTE_ROWS_FN(name, parameters) void we_u8_rows_##name##__neon parameters;
#include "kernels/byte_rows.inc"
#undef WE_BYTE_ROWS_FN
#endif
#define WE_IMAGE_FN(name, parameters) void we_image_##name##__ref parameters;
#include "kernels/image.inc"
#undef WE_IMAGE_FN
#if defined(WE_HAVE_X86)
#define WE_IMAGE_FN(name, parameters) void we_image_##name##__avx2 parameters;
#include "kernels/image.inc"
#undef WE_IMAGE_FN
#define WE_IMAGE_FN(name, parameters) void we_image_##name##__avx512 parameters;
#include "kernels/image.inc"
#undef WE_IMAGE_FN
#endif
#if defined(WE_HAVE_ARM)
#define WE_IMAGE_FN(name, parameters) void we_image_##name##__neon parameters;
#include "kernels/image.inc"
#undef WE_IMAGE_FN
#endif

#endif
