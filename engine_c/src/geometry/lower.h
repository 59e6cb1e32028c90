/* What a rule has at hand. A rule reads its node's inputs and writes commands whose last one fills each
 * output.
 *
 * The emitters below return the tensor they wrote, and do nothing once `status` is an error, so that rules
 * read as formulas; whoever runs the rule looks at `status` afterwards. `into` is the tensor to write, or
 * WE_NEW for a fresh one. */
#ifndef WE_GEOMETRY_LOWER_H
#define WE_GEOMETRY_LOWER_H

#include "raster/program.h"

enum {
    WE_NEW = -1,
};

typedef struct we_lower {
    we_program *program;
    we_call call;       /* call.in: copies, stable while commands are emitted */
    const int32_t *in;  /* tensors of the program, -1 where omitted */
    const int32_t *out; /* tensors to fill, shapes inferred */
    int32_t node;
    const we_kernels *kernels;
    we_status status;
    /* Lower another node in the midst of a rule, by its rule or by what the back end has for it; set by who
     * runs rules, for we_emit_node. */
    we_status (*nested)(struct we_lower *l, const we_node *node, const int32_t *in, int32_t out);
    void *nesting; /* its own */
} we_lower;

typedef void (*we_rule)(we_lower *l);
we_rule we_rule_of(int32_t op);

/* A copy, since emitting may move the program's tensors. */
we_tensor we_lower_tensor(const we_lower *l, int32_t tensor);
int32_t we_lower_temp(we_lower *l, we_dtype dtype, int32_t rank, const int64_t *dims);
/* A constant scalar; its value is rounded to the type. */
int32_t we_lower_scalar(we_lower *l, we_dtype dtype, double value);
/* A constant with uninitialised contents that the caller fills through *data. */
int32_t we_lower_constant(we_lower *l, we_dtype dtype, int32_t rank, const int64_t *dims, void **data);
/* The type an operation of that storage type is computed in; WE_DTYPE_COUNT where there is none. */
we_dtype we_compute_type(we_dtype dtype);
void we_lower_fail(we_lower *l, we_status status, const char *message);

int32_t we_emit_unary(we_lower *l, we_unary_fn fn, int32_t x, int32_t into);
int32_t we_emit_binary(we_lower *l, we_binary_fn fn, int32_t a, int32_t b, int32_t into);
int32_t we_emit_select(we_lower *l, int32_t condition, int32_t yes, int32_t no, int32_t into);
int32_t we_emit_cast(we_lower *l, int32_t x, we_dtype dtype, int32_t into);
int32_t we_emit_cast_as(we_lower *l, we_cast how, int32_t x, we_dtype dtype, int32_t into);
/* Reduces the flagged axes; a fresh result keeps them as 1. */
int32_t we_emit_reduce(we_lower *l, we_reduce_fn fn, int32_t x, const bool *reduced, int32_t into);
/* I64 index of the largest or smallest along an axis, the first or last of equals; a fresh result keeps the
 * axis as 1. */
int32_t we_emit_arg(we_lower *l, bool largest, bool last, int32_t x, int32_t axis, int32_t into);
/* Sum times 1/k. */
int32_t we_emit_mean(we_lower *l, int32_t x, const bool *reduced, int32_t into);
/* `matmul` gives sizes and steps; the result has the dims given. */
int32_t we_emit_matmul(we_lower *l, int32_t a, int32_t b, const we_matmul *matmul, int32_t rank,
                       const int64_t *dims, int32_t into);
/* NumPy's matmul of two tensors into one whose shape is inferred already. */
int32_t we_emit_product(we_lower *l, int32_t a, int32_t b, int32_t into);
/* `items` items of a native kernel of some `steps` elementary steps each; in is -1 from the first absent one
 * on, `size` bytes of parameters are copied. */
int32_t we_emit_native(we_lower *l, const we_native *native, const void *parameters, size_t size,
                       int64_t items, double steps, const int32_t in[3], int32_t into);
/* Another operator as a whole, which a back end may run natively: `into` has the shape that its inputs make.
 */
int32_t we_emit_node(we_lower *l, int32_t op, const we_attr *attrs, size_t attr_count, const int32_t *in,
                     int32_t in_count, int32_t into);
/* The same elements in order under another shape. */
int32_t we_emit_reshape(we_lower *l, int32_t x, int32_t rank, const int64_t *dims, int32_t into);
int32_t we_emit_transpose(we_lower *l, int32_t x, const int32_t *perm, int32_t into);

/* A raster under construction. */
typedef struct we_raster {
    we_region *regions;
    size_t count, room;
    double fill;
} we_raster;
void we_raster_add(we_lower *l, we_raster *raster, int32_t source, const we_box *box);
void we_emit_raster(we_lower *l, we_raster *raster, int32_t out); /* spends the raster */

/* A loop under construction: begin, make its views, emit the body with the emitters above (into views or
 * fresh tensors), end. Body commands that read nothing that varies are taken out of the loop. */
typedef struct we_loop_builder {
    we_loop loop;
    we_loop_view views[WE_LOOP_VIEWS];
    int32_t seeded[WE_LOOP_VIEWS], seeds[WE_LOOP_VIEWS]; /* results, and what each is a copy of at first */
    size_t seed_count, command_mark, tensor_mark;
} we_loop_builder;
void we_loop_begin(we_lower *l, we_loop_builder *loop, int32_t rank, const int64_t *sizes);
/* A part of `base` with these dims, dense, starting at `at` (whose strides are of the loop's dims). */
int32_t we_loop_view_of(we_lower *l, we_loop_builder *loop, int32_t base, int32_t rank, const int64_t *dims,
                        const we_address *at);
/* The latest view is `first` in the first iteration: how a recurrence starts. */
void we_loop_start_from(we_lower *l, we_loop_builder *loop, int32_t first);
/* The latest view is moved by an index tensor too; `index` is copied. */
void we_loop_move_by(we_lower *l, we_loop_builder *loop, const we_loop_index *index);
/* `result` starts as a copy of `seed` (same shape and type), and the loop overwrites part of it. */
void we_loop_seed(we_lower *l, we_loop_builder *loop, int32_t result, int32_t seed);
void we_loop_end(we_lower *l, we_loop_builder *loop);

/* into[o, i, ...] = from[o, index[i], ...]: `count` indices into an axis of `extent` places, each `inner`
 * elements. */
typedef struct we_gathering {
    int64_t outer, extent, count, inner;
} we_gathering;
void we_emit_gather(we_lower *l, int32_t from, int32_t indices, const we_gathering *g, int32_t into);

/* Row-major strides of a shape. */
void we_strides(int32_t rank, const int64_t *dims, int64_t *strides);

/* The rule column of the op table names them; several operators may share one. */
#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value)              \
    void we_rule_##rule(we_lower *l);
#include "ops/ops.inc"
#undef WE_OP_ROW

#endif
