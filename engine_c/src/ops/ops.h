/* The op table's enum, shape inference, and the readings of attributes that shape functions and rules share.
 */
#ifndef WE_OPS_OPS_H
#define WE_OPS_OPS_H

#include "base/error.h"
#include "graph/graph.h"
#include "graph/opspec.h"
#include "graph/tensor.h"

typedef enum we_op {
#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value) WE_OP_##Name,
#include "ops/ops.inc"
#undef WE_OP_ROW
    WE_OP_COUNT
} we_op;

bool we_op_is_composite(int32_t op);

/* A node with concrete inputs. in[i] is NULL where omitted. Values of inputs that decide a shape (Reshape's
 * second, Slice's bounds) must be CONST. */
typedef struct we_call {
    const we_graph *graph;
    const we_node *node;
    const we_tensor *const *in;
    we_error *err;
} we_call;

/* Fill dtype, rank, dims and count of out[0 .. node->output_count). */
we_status we_shape_infer(const we_call *call, we_tensor *out);

/* Fail with op and node named. */
#define WE_CALL_FAIL(call, status, ...)                                                                      \
    we_error_set_at((call)->err, status, we_op_name((call)->node->op), (call)->node->name, __VA_ARGS__)

/* Input `index`, or NULL where omitted. */
const we_tensor *we_call_input(const we_call *call, int32_t index);
/* A CONST I64 or I32 input as a list; UNSUPPORTED where it is not known yet. `room` entries fit. */
we_status we_call_ints(const we_call *call, int32_t index, int64_t *out, int32_t room, int32_t *count);
/* The same for numbers of any type. */
we_status we_call_numbers(const we_call *call, int32_t index, double *out, int32_t room, int32_t *count);
/* A list attribute of `count` entries of at least `least`, or all `fallback`. */
we_status we_call_attr_ints(const we_call *call, const char *name, int32_t count, int64_t fallback,
                            int64_t least, int64_t *out);
/* Element i of a CONST tensor as a number. */
double we_tensor_number(const we_tensor *tensor, int64_t i);
int64_t we_tensor_integer(const we_tensor *tensor, int64_t i);
/* The same moved so that signed comparison orders every integer type, U64 too. */
int64_t we_tensor_ordered(const we_tensor *tensor, int64_t i);
/* Input `index`, which decides a shape and so must be CONST; UNSUPPORTED where it is not known yet. */
we_status we_call_known(const we_call *call, int32_t index, const we_tensor **out);

/* A type named by an attribute; `fallback` where it is absent, WE_DTYPE_COUNT makes it required. */
we_status we_call_dtype(const we_call *call, const char *name, we_dtype fallback, we_dtype *out);

/* An axis attribute or value made non-negative. */
we_status we_call_axis(const we_call *call, int64_t axis, int32_t rank, int32_t *out);

typedef struct we_axes {
    bool reduced[WE_MAX_RANK];
    bool keep;
} we_axes;
/* Which axes a reduction takes (attribute or second input), and whether it keeps them as 1. */
we_status we_call_axes(const we_call *call, we_axes *out);

enum {
    WE_MAX_SPATIAL = 3,
};

/* A sliding window over the spatial dims of [N, C, spatial...]. */
typedef struct we_window {
    int32_t rank; /* spatial */
    int64_t kernel[WE_MAX_SPATIAL], stride[WE_MAX_SPATIAL], dilation[WE_MAX_SPATIAL];
    int64_t pad_begin[WE_MAX_SPATIAL], pad_end[WE_MAX_SPATIAL];
    int64_t in[WE_MAX_SPATIAL], out[WE_MAX_SPATIAL];
    int64_t taps; /* product of kernel */
} we_window;
we_status we_call_window(const we_call *call, const int64_t *kernel_of_weight, we_window *out);

/* The window of ConvTranspose over input 0 [N, C, spatial...]: `in` as given, `out` the extents of the
 * result, paddings what is cut from it. */
we_status we_call_transposed_window(const we_call *call, const int64_t *kernel, we_window *out);

/* The window of Col2Im: `in` counts the blocks per dim, `out` is the image. */
we_status we_call_blocks(const we_call *call, we_window *out);

/* What Resize makes of each dim: its extent, its scale, and the part of it that is read (0 to 1: all). */
typedef struct we_resize {
    int64_t out[WE_MAX_RANK];
    double scale[WE_MAX_RANK], start[WE_MAX_RANK], end[WE_MAX_RANK];
} we_resize;
/* `scales_input` is 2 for Resize (roi before it, sizes behind it), 1 for Upsample. */
we_status we_call_resize(const we_call *call, int32_t scales_input, we_resize *out);

/* The extents MaxUnpool's indices were made for. */
we_status we_call_unpooled(const we_call *call, int64_t *dims);

typedef struct we_dft {
    int32_t axis;
    int64_t length, bins; /* of the transform, of the result */
} we_dft;
we_status we_call_dft(const we_call *call, we_dft *out);

typedef struct we_stft {
    int64_t step, length, frames;
} we_stft;
we_status we_call_stft(const we_call *call, we_stft *out);

/* How far one scale of QuantizeLinear or DequantizeLinear reaches. */
typedef enum we_grain_kind { WE_GRAIN_TENSOR, WE_GRAIN_AXIS, WE_GRAIN_BLOCK } we_grain_kind;
typedef struct we_grain {
    we_grain_kind kind;
    int32_t axis;
    int64_t block; /* entries of the axis that share a scale; the last block may be cut off */
} we_grain;
we_status we_call_grain(const we_call *call, const we_tensor *scale, we_grain *out);

/* MatMulNBits: a matrix of `n` rows of `k` in codes of 4 or 8 bits, each row in blocks with a scale each. */
typedef struct we_coded_rows {
    int64_t n, k, block, blocks;
    int32_t bits;
} we_coded_rows;
we_status we_call_coded_rows(const we_call *call, we_coded_rows *out);

/* Slice per axis: out[i] = in[start + i * step], i < size. */
typedef struct we_slice {
    int64_t start[WE_MAX_RANK], step[WE_MAX_RANK], size[WE_MAX_RANK];
} we_slice;
we_status we_call_slice(const we_call *call, we_slice *out);

we_status we_call_split(const we_call *call, int32_t *axis, int64_t *sizes /* output_count */);
we_status we_call_pads(const we_call *call, int64_t *begin, int64_t *end);

/* NumPy broadcasting of two shapes into `out`; false where they do not fit. */
bool we_broadcast(int32_t a_rank, const int64_t *a, int32_t b_rank, const int64_t *b, int32_t *rank,
                  int64_t *out);

#endif
