/* Walking strided arrays with kernels that want their elements together and in one dtype.
 *
 * The dims of all operands are merged where they can be, the innermost run is handed to the kernel as it lies
 * where it lies together, and else goes through a small buffer: gathered, converted, computed, converted,
 * scattered. */
#ifndef WE_ARRAY_LOOPS_H
#define WE_ARRAY_LOOPS_H

#include <stdbool.h>

#include "base/threads.h"
#include "kernels/array.h"

enum {
    WE_ARRAY_OPERANDS = 4, /* of a loop at most: three inputs and the result */
};

/* in: the inputs, then the result, `n` elements each, in the dtypes of the loop. */
typedef void (*we_array_step)(const void *kernel, int64_t n, void *const *operands);

typedef struct we_array_loop {
    int32_t inputs;
    we_array operands[WE_ARRAY_OPERANDS];       /* the result is operands[inputs]; all have its dims */
    we_array_dtype computed[WE_ARRAY_OPERANDS]; /* what the kernel reads and writes */
    we_array_step step;
    const void *kernel;
    int64_t grain; /* elements worth a thread's while; 0: as for plain arithmetic */
} we_array_loop;

/* The dims that several arrays of one shape have together, outermost first, as few as can be. */
typedef struct we_array_nest {
    int32_t rank, operands; /* rank >= 1 */
    int64_t dims[WE_MAX_RANK];
    int64_t strides[WE_ARRAY_OPERANDS][WE_MAX_RANK];
} we_array_nest;

/* The strides of operand `lead` decide which dim goes inside; dims of 1 are left out. */
void we_array_nest_make(we_array_nest *nest, int32_t operands, const we_array *const *arrays, int32_t lead);

/* Where a walk through a nest is, and the address of an operand there. */
typedef struct we_array_place {
    int64_t index[WE_MAX_RANK];
} we_array_place;
we_array_place we_array_place_at(const we_array_nest *nest, int64_t position);
int64_t we_array_offset(const we_array_nest *nest, int32_t operand, const we_array_place *at);
/* Move n elements of `size` bytes. */
void we_array_move(int64_t n, int64_t size, const char *from, int64_t from_stride, char *to,
                   int64_t to_stride);

/* Broadcast x to the dims of `out`. INVALID_ARGUMENT where it does not. */
we_status we_array_broadcast(const we_array *x, const we_array *out, we_array *result, we_error *err);
/* Run; an input that overlaps the result without coinciding with it is copied first. */
we_status we_array_loop_run(we_array_loop *loop, we_error *err);
int64_t we_array_count(const we_array *x);
/* The process's quota of threads for arrays. NULL: one thread. */
we_pool *we_array_pool(void);
/* we_parallel_for in that quota, or in the caller alone; it counts as a run, so that helpers keep off the
 * cores of the others. */
void we_array_share(bool shared, int64_t count, int64_t grain, we_pool_work work, void *context);

#endif
