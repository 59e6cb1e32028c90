/* Windows over images whose planes lie behind one another, a plane at a time and of that some rows: what the
 * native ways share that need no channels beside each other. */
#ifndef WE_BACKEND_CPU_PLANES_H
#define WE_BACKEND_CPU_PLANES_H

#include "backend/cpu/conv.h"

typedef struct we_planes {
    int64_t items, channels; /* planes: items * channels */
    int64_t rows;            /* of outputs made at once */
    we_plane plane;          /* but for rows, scratch and what a plane has of its own */
    const float *bias;       /* of each channel; NULL: none */
} we_planes;

/* weights: one filter for each channel, [channels, taps]; NULL: a pool. False where windows are too large. */
bool we_planes_of(const we_conv *conv, const float *weights, we_planes *out);
size_t we_planes_scratch(const we_planes *p, int32_t threads);
/* The kernel over all planes, on the run's pool; residual may be NULL. */
void we_planes_run(const we_run *run, const we_planes *p, we_plane_kernel kernel, const float *x,
                   const float *residual, float *y);

#endif
