/* Gradients of lowered programs. What a rule makes is atoms, rasters and loops, so these alone have formulas,
 * and every composite is differentiated by what it is made of.
 *
 * Invariants:
 * - commands are walked backward, so a tensor's gradient is complete when its writer is met;
 * - a gradient has the type and the shape of its tensor;
 * - nothing is emitted for what does not lie between the chosen tensors and the loss. */
#ifndef WE_GRAD_GRAD_H
#define WE_GRAD_GRAD_H

#include "geometry/lower.h"

typedef struct we_gradients {
    we_lower *l;
    size_t known;                 /* tensors there were before the first gradient */
    const bool *wanted;           /* per tensor: it depends on what is chosen, and the loss depends on it */
    int32_t *of;                  /* per tensor: its gradient so far; -1: nothing yet */
    struct we_reversal *reversal; /* of the loop whose body is being walked; NULL outside */
} we_gradients;

bool we_grad_wants(const we_gradients *g, int32_t tensor);
/* `part` has the tensor's type and as many elements. */
void we_grad_add(we_gradients *g, int32_t tensor, int32_t part);
/* What the command read or wrote, as it is known while gradients are computed. */
int32_t we_grad_read(we_gradients *g, const we_command *command, int32_t i);
int32_t we_grad_written(we_gradients *g, const we_command *command);

/* The same inside the body of a loop: computed anew, for the iteration that is walked. */
int32_t we_reversal_read(we_gradients *g, const we_command *command, int32_t i);
int32_t we_reversal_written(we_gradients *g, const we_command *command);

/* Gradients of all a command reads, given that of what it wrote. */
void we_grad_command(we_gradients *g, const we_command *command, int32_t of_out);

/* One per kind of command. */
void we_grad_unary(we_gradients *g, const we_command *command, int32_t of_out);
void we_grad_binary(we_gradients *g, const we_command *command, int32_t of_out);
void we_grad_select(we_gradients *g, const we_command *command, int32_t of_out);
void we_grad_cast(we_gradients *g, const we_command *command, int32_t of_out);
void we_grad_reduce(we_gradients *g, const we_command *command, int32_t of_out);
void we_grad_matmul(we_gradients *g, const we_command *command, int32_t of_out);
void we_grad_raster(we_gradients *g, const we_command *command, int32_t of_out);
/* Of an operator that runs natively: by composite_grads.inc. */
void we_grad_claim(we_gradients *g, const we_command *command, int32_t of_out);
#define WE_COMPOSITE_GRAD(Op, name)                                                                          \
    void we_grad_##name(we_gradients *g, const we_command *command, int32_t of_out);
#include "grad/composite_grads.inc"
#undef WE_COMPOSITE_GRAD
/* May a node of that operator run natively and be differentiated all the same? The claim's ports then have
 * all inputs past the first. */
bool we_grad_keeps_whole(int32_t op);
/* A loop may have several results; it finds their gradients itself. */
void we_grad_loop(we_gradients *g, size_t command);

/* Does a change of what this command reads change what it writes, to first order? */
bool we_grad_passes(const we_program *program, const we_command *command);

/* The sum of all that the regions bring from their sources to one place of a tensor like `like`, 0 where they
 * bring nothing. Unlike those of a raster, these may overlap and may have strides of 0 where they write. */
int32_t we_grad_scatter(we_lower *l, const we_region *regions, size_t count, const we_tensor *like);

/* Which nodes lie between the chosen values and the loss of a Gradient node of the graph; false: none. */
bool we_grad_between(const we_graph *graph, bool *values, bool *nodes);

#endif
