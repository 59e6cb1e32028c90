/* The lowered program: tensors and commands, where a command is one atomic operator, one raster, or one
 * claim. Rules write it, merging and fusing rewrite it, a back end runs it. */
#ifndef WE_RASTER_PROGRAM_H
#define WE_RASTER_PROGRAM_H

#include "base/memory.h"
#include "base/packs.h"
#include "graph/tensor.h"
#include "kernels/kernels.h"
#include "kernels/native.h"
#include "ops/ops.h"
#include "raster/region.h"

enum {
    WE_LOOP_VIEWS = 24, /* of one loop */
    WE_CLAIM_INPUTS = 8,
    WE_CLAIM_OUTPUTS = 4,
};

typedef enum we_command_kind {
    WE_COMMAND_UNARY,
    WE_COMMAND_BINARY,
    WE_COMMAND_SELECT,
    WE_COMMAND_CAST,
    WE_COMMAND_REDUCE,
    WE_COMMAND_ARG,
    WE_COMMAND_TOP,
    WE_COMMAND_RANDOM,
    WE_COMMAND_MATMUL,
    WE_COMMAND_LOOP,
    WE_COMMAND_RASTER,
    WE_COMMAND_CLAIM,
    WE_COMMAND_NATIVE,
    WE_COMMAND_CHAIN,
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
    const we_matmul_row *kernel; /* NULL: the plain loop; set for float32 alone */
    const float *packed_b;       /* made once where B is constant, else NULL */
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

/* Moves a view by what an index tensor says. Its last dim holds the `components` of one index (it has none
 * where components is 1): component c, counted from the end where negative, moves the view by step[c]. */
typedef struct we_loop_index {
    int32_t tensor; /* -1: the view is not indexed */
    int32_t components;
    we_address at; /* of component 0 in iteration x */
    int64_t step[WE_MAX_RANK], extent[WE_MAX_RANK];
} we_loop_index;

/* A tensor of kind VIEW that body commands use; it lies somewhere else in each iteration. */
typedef struct we_loop_view {
    int32_t view, base; /* `base` is the tensor it looks into */
    int32_t first;      /* tensor it is in the first iteration instead, or -1 */
    we_address at;      /* where in `base` it starts in iteration x */
    we_loop_index index;
} we_loop_view;

/* For every x of the box: place the views, run the body. */
typedef struct we_loop {
    int32_t rank;
    int64_t size[WE_MAX_RANK];
    bool independent; /* iterations may run in any order and at once */
    bool pieces;      /* chosen by the search: run in pieces (see backend/cpu/loop_pieces.c) */
    const we_loop_view *views;
    struct we_command *body;
    const int32_t *reads;          /* tensors from outside */
    const int32_t *writes, *seeds; /* results, and what each is a copy of beforehand (-1: of nothing) */
    size_t view_count, body_count, read_count, write_count;
} we_loop;

/* A tensor a chain reads: element (row, column) is row * row_step + column * step from its start. */
typedef struct we_chain_operand {
    int32_t tensor;
    int64_t row_step, step;
} we_chain_operand;

/* One element-wise function of operands (0 and up) or of results of earlier steps (~ the step). */
typedef struct we_chain_step {
    we_command_kind kind; /* UNARY, BINARY or SELECT */
    int32_t fn;
    int32_t in[3], in_count;
    int32_t buffer; /* for the result; of the last step it is the output */
} we_chain_step;

enum {
    WE_CHAIN_STEPS = 16,
    WE_CHAIN_OPERANDS = 12,
    WE_CHAIN_BUFFERS = 6,
};

/* Element-wise commands over one shape, run together block by block so that what lies between them stays in
 * the first-level cache. float32 throughout, but for conditions. The output is dense [rows, columns]. */
typedef struct we_chain {
    int64_t rows, columns;
    int32_t step_count, operand_count;
    we_chain_step steps[WE_CHAIN_STEPS];
    we_chain_operand operands[WE_CHAIN_OPERANDS];
} we_chain;

/* Tensors of a claim beyond the first input and output, by their place at the node; -1: absent, or not read
 * while running. Place 0 stays -1: in[0] and out have it. */
typedef struct we_ports {
    int32_t in[WE_CLAIM_INPUTS], out[WE_CLAIM_OUTPUTS];
} we_ports;

typedef struct we_command {
    we_command_kind kind;
    int32_t node;  /* of the graph, for messages */
    int32_t in[3]; /* tensors, -1 where absent; rasters, loops and chains list what they read instead */
    int32_t out;   /* of a loop: its first result */
    bool removed;
    bool away; /* runs on the session's device */
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
            bool largest;               /* first, or the smallest */
            int64_t outer, n, inner, k; /* [outer, n, inner] to I64 indices [outer, k, inner] */
        } top;
        struct {
            bool normal,
                seeded; /* standard normal or uniform in [0, 1), float32; without a seed, runs differ */
            double seed;
        } random; /* in[0]: an I64 that numbers depend on besides, or -1 */
        we_loop loop;
        we_chain *chain; /* in[0]: an operand that the output may be written over, or -1 */
        we_matmul matmul;
        struct {
            const we_region *regions;
            size_t count;
            double fill;  /* of what no region covers */
            bool partial; /* what no region covers is written by others: nothing is filled */
        } raster;
        struct {
            const we_native *native;
            const void *parameters;
            int64_t items;
            double steps; /* elementary, per item, for the cost model */
        } native;
        struct {
            int32_t claim; /* row of claims.inc */
            const void *parameters;
            const we_ports *ports;       /* NULL: one input, one output */
            const we_matmul_row *kernel; /* where the claim holds a product */
            bool plain;                  /* input 0 is channels first, whatever the result is */
            bool relu;                   /* fused */
            float ceiling;               /* of what relu leaves, fused; 0: none */
            const we_byte_sum *then; /* a result of bytes and in[1] are added so, fused; NULL: they are not */
            int64_t channels; /* of the result, where those are last: `out` may say so in another shape */
            int64_t pitch,
                offset; /* of positions in `out`, where it is wider than the result; 0: it is not */
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
    we_packs *packs; /* of the model; NULL: what is packed is not shared */
    we_pool *pool;   /* for packing */
    we_pack **held;
    size_t held_count, held_room;
    int64_t packed_bytes; /* of those */
} we_program;

void we_program_free(we_program *program);
we_status we_program_tensor(we_program *program, const we_tensor *tensor, int32_t *index, we_error *err);
we_status we_program_command(we_program *program, const we_command *command, we_error *err);

/* A constant in the form a kernel wants; it lives as long as the program. See we_packs_get. */
we_status we_program_pack(we_program *program, const we_pack_key *key, size_t bytes, we_pack_work work,
                          const void *context, const void **out, we_error *err);

/* What a command reads, in order; a raster's sources may repeat. */
size_t we_command_reads(const we_command *command);
int32_t we_command_read(const we_command *command, size_t i);
/* What it writes; only loops and claims may have several results. */
size_t we_command_writes(const we_command *command);
int32_t we_command_write(const we_command *command, size_t i);
/* True where the body is one command between views: no memory of its own, and no pass through the back end's
 * table per iteration. */
bool we_loop_is_simple(const we_program *program, const we_loop *loop);
/* True for such a one whose body is one dense copy, or one binary function, wherever the iteration is. */
bool we_loop_has_pieces(const we_program *program, const we_loop *loop);
int64_t we_loop_iterations(const we_loop *loop);

/* The tensor whose memory this one uses, and where in it (elements). */
int32_t we_program_root(const we_program *program, int32_t tensor, int64_t *offset);

/* Walk of an output over operands that broadcast to it. */
void we_walk_broadcast(const we_tensor *out, const we_tensor *const *in, int32_t count, we_walk *walk);
/* Does it read the operand in the order of the output, without gaps? */
bool we_walk_in_order(const we_walk *walk, int32_t operand);

/* True where a raster copies one tensor's elements in order and without gaps: then its output is a view of
 * that tensor, *offset elements from its start. */
bool we_raster_is_alias(const we_program *program, const we_command *raster, int64_t *offset);

/* True where the regions cover the whole output, so that nothing is filled. */
bool we_raster_is_full(const we_program *program, const we_command *raster);

/* Move permutations behind the element-wise commands and reductions that read them, so that those between two
 * claims meet and merge (layout.c). Adds at most one tensor and one command per command. */
we_status we_program_move_permutations(we_program *program, we_error *err);

typedef struct we_merge_settings {
    bool vertical, horizontal;
    bool verify; /* trace every element through both programs; slow */
} we_merge_settings;

typedef struct we_traffic {
    int64_t rasters, regions, bytes; /* bytes: moved by the regions */
} we_traffic;

typedef struct we_merge_report {
    we_traffic before, after;
    int64_t composed; /* regions that now read past the raster they read from */
    int64_t operands; /* of other commands that now read past a raster, by steps */
    int64_t shared;   /* rasters that did what an earlier one had done */
    int64_t aliases;  /* rasters that moved nothing */
} we_merge_report;

we_traffic we_program_traffic(const we_program *program);

enum {
    WE_MERGE_TENSORS = 3, /* new ones at most, per command */
};

/* Merge rasters vertically and horizontally, turn identities into aliases, and drop what nobody reads.
 * Tensors flagged in `kept` are wanted outside; it has one flag per tensor, those merging may add included.
 * The report's counts are added to; its traffic before is the caller's. */
we_status we_program_merge(we_program *program, const bool *kept, const we_merge_settings *settings,
                           we_merge_report *report, we_error *err);

/* Working memory of one composition. */
typedef struct we_composition {
    we_box_list reader, spare;
    we_region_list through;
} we_composition;

/* Does the command walk this operand by steps of its own? */
bool we_command_takes_steps(const we_command *command, int32_t operand);
/* Let such an operand read the source of the raster that writes it; *done tells whether it does. */
we_status we_operand_through(we_program *program, we_command *command, int32_t operand,
                             const we_command *producer, we_composition *lists, bool *done, we_error *err);

/* Trace every element that `before` (as many commands as the program had) and the merged program move back to
 * what no raster wrote, and compare. INTERNAL where they differ. */
we_status we_program_verify(const we_program *program, const we_command *before, size_t before_count,
                            we_error *err);

#endif
