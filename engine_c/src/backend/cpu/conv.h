/* What the native ways to slide a window over images share. Their images are channels last, [N, rows,
 * columns, channels], so that what a tap sees of a position lies together: the row of a product, or vectors
 * of channels. (The order around them is the layout pass's affair: raster/layout.c.) */
#ifndef WE_BACKEND_CPU_CONV_H
#define WE_BACKEND_CPU_CONV_H

#include "backend/cpu/cpu.h"
#include "base/dtype.h"

typedef struct we_conv {
    int64_t items, group, channels, filters; /* channels and filters per group */
    we_window w;                             /* two spatial dims */
    int64_t positions;                       /* of one output image */
    const float *weights, *bias;             /* constants, [filters, channels, taps]; bias may be NULL */
    bool weights_vary, bias_varies;          /* they are inputs 1 and 2 instead, and their pointers NULL */
    bool turned; /* of a transposed convolution: weights are [channels, filters, taps from last to first] */
} we_conv;

/* A window of one spatial dim as one over images of one row. */
void we_conv_widen(we_window *w);

/* The window and what follows from it; false where no native way applies to images of any type. */
bool we_conv_read_window(const we_call *call, const int64_t *kernel, we_conv *c);
/* False where no native way applies: float32, constant weights, one or two spatial dims. */
bool we_conv_read(const we_call *call, we_conv *out);
/* The same with weights and bias that may vary. A transposed convolution that steps by one is a convolution
 * by turned weights; it is read as such where they vary. */
bool we_conv_read_varying(const we_call *call, we_conv *out);
/* Are there groups of so few channels or filters that a product of each wastes most of its tiles? */
bool we_conv_has_small_groups(const we_conv *c);
/* Where weights of a group lie: from a filter, a channel, a tap to the next, from the first of each. */
typedef struct we_conv_steps {
    int64_t group, filter, channel, tap, first;
} we_conv_steps;
we_conv_steps we_conv_weight_steps(const we_conv *c);
/* The same for a pool, whose channels are groups of their own; and for one of bytes. */
bool we_pool_read(const we_call *call, we_conv *out);
bool we_pool_read_bytes(const we_call *call, we_conv *out);
/* The same of a mean; whether it is over the padding, too. */
bool we_pool_read_mean(const we_call *call, we_conv *out, bool *counts_padding);

static inline int64_t we_conv_channels_in(const we_conv *c) {
    return c->group * c->channels;
}

/* Images may lie as bfloat16 (see plan/narrow.c), or be of bytes. The type of a tensor's elements, and their
 * address. */
static inline we_dtype we_conv_dtype(const we_run *run, int32_t tensor) {
    return run->program->tensors[tensor].dtype;
}
static inline void *we_conv_at(const we_run *run, int32_t tensor, int64_t element) {
    return (char *)run->memory[tensor] + element * (int64_t)we_dtype_size(we_conv_dtype(run, tensor));
}

/* Where a claim's result begins, and elements from one position of it to the next. */
static inline void *we_conv_out(const we_run *run, const we_command *command, int64_t element) {
    return we_conv_at(run, command->out, command->u.claim.offset + element);
}
static inline int64_t we_conv_pitch(const we_conv *c, const we_command *command) {
    return command->u.claim.pitch ? command->u.claim.pitch : c->group * c->filters;
}

/* Rows or columns of taps [begin, end) that lie inside the image for output `at` of spatial dim i. */
void we_conv_inside(const we_window *w, int32_t i, int64_t at, int64_t *begin, int64_t *end);

/* One stretch of outputs that see the same taps. */
typedef struct we_conv_part {
    we_stretch stretch;
    int64_t x, y;        /* where its first output reads and writes, in elements */
    int32_t row, column; /* its first tap */
} we_conv_part;
typedef void (*we_conv_visit)(const we_run *run, const we_command *command, const we_conv_part *part);

/* Visit all outputs of a window that sees one channel, in parallel. */
void we_conv_each_part(const we_run *run, const we_command *command, const we_conv *conv,
                       we_conv_visit visit);

#endif
