/* What the ways to convolve share: the sizes of a call, and images stored with their padding.
 *
 * A stored image has its zeros around it, and its columns are parted by their remainder modulo the stride, so
 * that what one tap sees along an output row lies together whatever the stride:
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
/* The plane sizes of a window over unconvolved images; its filters and weights stay unset. */
void we_conv_size(we_conv *c);
/* For kernels that read past what they were given. */
void we_conv_must_store(we_conv *c);
/* Where tap (i, j) of output (0, 0) reads, from the start of a plane. */
int64_t we_conv_tap(const we_conv *c, int64_t i, int64_t j);
/* The same for all taps in order, in the arena; NULL when out of memory. */
const int32_t *we_conv_tap_offsets(const we_conv *c, we_arena *arena);
/* Scratch of one worker that takes plane by plane through a stored copy, in floats. */
size_t we_conv_plane_floats(const we_conv *c);
/* One plane as the window kernels take it. */
we_taps we_conv_taps(const we_conv *c, const int32_t *offsets);
/* Distance between what one tap reads for an output row and for the next. */
int64_t we_conv_row_step(const we_conv *c);
/* Store one plane; `fill` is what padding holds. */
void we_conv_store(const we_conv *c, const float *x, float fill, float *to);

#endif
