/* The lowered program: tensors and commands, where a command is one atomic operator, one raster, or one
 * claim. Rules write it, merging and fusing rewrite it, a back end runs it. */
#ifndef WE_RASTER_PROGRAM_H
#define WE_RASTER_PROGRAM_H

#include "base/memory.h"
#include "graph/tensor.h"
#include "kernels/kernels.h"
#include "ops/ops.h"
#include "raster/region.h"

typedef enum we_command_kind {
    WE_COMMAND_UNARY,
    WE_COMMAND_BINARY,
    WE_COMMAND_SELECT,
    WE_COMMAND_CAST,
    WE_COMMAND_REDUCE,
    WE_COMMAND_ARG,
    WE_COMMAND_MATMUL,
    WE_COMMAND_GATHER,
    WE_COMMAND_RASTER,
    WE_COMMAND_CLAIM,
} we_command_kind;

/* Row-major walk of the output with one step per operand and dim; 0 repeats. Coalesced. */
typedef struct we_walk {
    int32_t rank;
    int64_t size[WE_MAX_RANK];
    int64_t step[3][WE_MAX_RANK];
} we_walk;

typedef enum we_bias_kind {
    WE_BIAS_NONE,
    WE_BIAS_ROW,    /* added to whole rows; element (batch * m + row) mod period */
    WE_BIAS_COLUMN, /* added to whole columns */
} we_bias_kind;

/* out[b] = A[b] * B[b] for every b of the batch, out dense [batch..., m, n]. Steps in elements. */
typedef struct we_matmul {
    int64_t m, n, k;
    int32_t batch_rank;
    int64_t batch[WE_MAX_RANK], a_batch[WE_MAX_RANK], b_batch[WE_MAX_RANK];
    int64_t a_row, a_column, b_row, b_column;
    we_bias_kind bias; /* in[2] */
    int64_t period;    /* of a row bias */
    bool relu;
    const we_matmul_row *kernel;      /* NULL: the plain loop */
    const float *packed_a, *packed_b; /* made once where the operand is constant, else NULL */
} we_matmul;

/* How a conversion treats values outside the target type, as attributes of Cast say; 0 is their default. */
typedef enum we_rounding {
    WE_ROUND_UP,
    WE_ROUND_DOWN,
    WE_ROUND_NEAREST,
} we_rounding;

typedef struct we_cast {
    bool overflow;        /* to 8-bit floats: past the largest value comes infinity or NaN, not that value */
    we_rounding rounding; /* to F8_E8M0 */
} we_cast;

typedef struct we_command {
    we_command_kind kind;
    int32_t node;  /* of the graph, for messages */
    int32_t in[3]; /* tensors, -1 where absent; a raster reads its regions' sources instead */
    int32_t out;
    bool removed;
    union {
        we_unary_fn unary;
        we_cast cast;
        struct {
            we_binary_fn fn;
            we_walk walk;
        } binary;
        we_walk select; /* in: condition, then, else */
        struct {
            we_reduce_fn fn;
            int64_t outer, k, inner; /* [outer, k, inner] to [outer, inner] */
        } reduce;
        struct {
            bool largest, last; /* argmax or argmin; which of equals */
            int64_t outer, k, inner;
        } arg;
        struct {
            int64_t outer, axis, inner; /* in[0] is [outer, axis, inner], in[1] the indices */
        } gather;
        we_matmul matmul;
        struct {
            const we_region *regions;
            size_t count;
            double fill; /* of what no region covers */
        } raster;
        struct {
            int32_t claim; /* row of claims.inc */
            const void *parameters;
        } claim;
    } u;
    const char *candidate; /* what the search chose */
    double predicted_ms;
} we_command;

typedef struct we_program {
    we_arena arena;
    we_tensor *tensors;
    we_command *commands;
    size_t tensor_count, command_count, tensor_room, command_room;
} we_program;

void we_program_free(we_program *program);
we_status we_program_tensor(we_program *program, const we_tensor *tensor, int32_t *index, we_error *err);
we_status we_program_command(we_program *program, const we_command *command, we_error *err);

/* What a command reads, in order; a raster's sources may repeat. */
size_t we_command_reads(const we_command *command);
int32_t we_command_read(const we_command *command, size_t i);

/* The tensor whose memory this one uses, and where in it (elements). */
int32_t we_program_root(const we_program *program, int32_t tensor, int64_t *offset);

/* Walk of an output over operands that broadcast to it. */
void we_walk_broadcast(const we_tensor *out, const we_tensor *const *in, int32_t count, we_walk *walk);

/* True where a raster copies one tensor's elements in order and without gaps: then its output is a view of
 * that tensor, *offset elements from its start. */
bool we_raster_is_alias(const we_program *program, const we_command *raster, int64_t *offset);

/* Merge rasters vertically where that is possible, turn identities into aliases, and drop what nobody reads.
 * Tensors flagged in `kept` (one flag per tensor) are wanted outside. */
we_status we_program_merge(we_program *program, const bool *kept, we_error *err);

#endif
