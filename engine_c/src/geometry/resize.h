/* Which elements of an axis a resized position sees, and with what weights: what the rule and the claims of
 * Resize share. Source: ONNX operator specification, Resize. */
#ifndef WE_GEOMETRY_RESIZE_H
#define WE_GEOMETRY_RESIZE_H

#include "ops/ops.h"

/* The resize of one axis. */
typedef struct we_resize_axis {
    int64_t in, out;
    double scale, start, end;
    const char *coordinates, *mode, *nearest;
    bool antialias, exclude_outside;
    double cubic;
} we_resize_axis;

/* What all axes have in common, as attributes of Resize or Upsample say. */
we_resize_axis we_resize_modes(const we_node *node);
/* Shapes and scales; also the input that holds the scales differs between the two. */
we_status we_resize_shapes(const we_call *call, we_resize *out);
/* Axis i of the call; true where it is copied as it is. */
bool we_resize_axis_is_same(we_resize_axis *axis, const we_resize *shapes, const we_tensor *x, int32_t i);

/* Elements that a position sees; 1 where one is picked. */
int64_t we_resize_taps(const we_resize_axis *axis);
/* Their indices, ascending along both, and their weights (not touched where one is picked), [taps, out]. */
void we_resize_fill(const we_resize_axis *axis, int64_t *at, double *weights);
bool we_resize_picks(const we_resize_axis *axis);
bool we_resize_crops(const we_resize_axis *axis);
/* The input coordinate of an output position. */
double we_resize_coordinate(const we_resize_axis *axis, int64_t position);

#endif
