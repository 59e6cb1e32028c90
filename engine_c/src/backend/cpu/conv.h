/* What the ways to convolve share: the sizes of a call, and images stored with their padding.
 *
 * A stored image has its zeros around it, and its columns are parted by their remainder modulo the stride, so that what
 * one tap sees along an output row lies together whatever the stride:
 *   [channels][rows][remainder][columns]. */
#ifndef WE_BACKEND_CPU_CONV_H
#define WE_BACKEND_CPU_CONV_H

#include "backend/cpu/cpu.h"

typedef struct we_conv {
    int64_t items, group, channels, filters; /* channels and filters per group */
    we_window w;                             /* two spatial dims */
    int64_t positions;                       /* of one output plane */
    const float *weights, *bias;             /* constants; bias may be NULL */
    bool stored;                             /* images need storing: else they are read where they are */
    int64_t parts, part, row, plane;         /* of a stored image, in elements */
} we_conv;

enum {
    WE_CONV_SLACK = 64, /* elements past the last stored image that kernels may read */
};

/* False where no native way applies: float32, constant weights, one or two spatial dims. */
bool we_conv_read(const we_call *call, we_conv *out);
/* Where tap (i, j) of output (0, 0) reads, from the start of a plane. */
int64_t we_conv_tap(const we_conv *c, int64_t i, int64_t j);
/* Distance between what one tap reads for an output row and for the next. */
int64_t we_conv_row_step(const we_conv *c);
/* Store one plane. */
void we_conv_store(const we_conv *c, const float *x, float *to);

#endif
