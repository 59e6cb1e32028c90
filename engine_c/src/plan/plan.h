/* From a lowered program to memory: fused epilogues, results written over operands that die, one arena. */
#ifndef WE_PLAN_PLAN_H
#define WE_PLAN_PLAN_H

#include "raster/program.h"

typedef struct we_span {
    int64_t offset; /* bytes from the arena's start; -1: not in the arena */
    int64_t bytes;
    int32_t first, last; /* commands that write it and read it last */
    bool scratch;        /* of one command, whose it is from beginning to end */
} we_span;

typedef struct we_plan {
    we_span *spans;         /* per tensor, and only roots have one; then those of scratch */
    const we_span *scratch; /* per command: the second part of `spans` */
    size_t span_count;
    int64_t arena_bytes;
    int64_t lower_bound; /* the largest sum of bytes alive at once */
} we_plan;

/* How often each root is read, by commands or from outside; an array that the caller frees. */
we_status we_plan_count_reads(const we_program *program, const bool *kept, int32_t **out, we_error *err);

/* Bias additions and relu move into the product that feeds them. `kept` flags tensors wanted outside. */
we_status we_plan_fuse(we_program *program, const bool *kept, we_error *err);

/* Results that a raster only copies to parts of its output are written there at once. */
we_status we_plan_place(we_program *program, const bool *kept, we_error *err);

/* Element-wise commands over one shape whose results nobody else reads become one command. */
we_status we_plan_chain(we_program *program, const bool *kept, we_error *err);

/* Store as bfloat16 what is between products that round it (narrow.c), on a device, and on the CPU where that
 * has kernels for it. Kernels are chosen; nothing is prepared yet. */
we_status we_plan_narrow(we_program *program, bool cpu_can, const bool *kept, we_error *err);

/* Casts to and from 16-bit floats become part of the device's commands around them (absorb.c), which are
 * flagged as removed. */
we_status we_plan_absorb(we_program *program, const bool *kept, we_error *err);

/* Element-wise results take over the memory of an operand that dies with them. */
we_status we_plan_in_place(we_program *program, const bool *kept, we_error *err);

/* Give every temporary root that is not `external` (written straight to the caller), and the scratch of every
 * command, a place: in the best of a few orders, each at the lowest offset free over its life; tensors that
 * are `kept` live to the end. `scratch_bytes` has one number per command; NULL: none needs any. With `reuse`
 * false no two tensors share memory. */
we_status we_plan_memory(const we_program *program, const bool *kept, const bool *external,
                         const size_t *scratch_bytes, bool reuse, we_plan *out, we_error *err);
void we_plan_free(we_plan *plan);

#endif
