/* What rules of sliding windows share. */
#ifndef WE_GEOMETRY_WINDOW_H
#define WE_GEOMETRY_WINDOW_H

#include "geometry/lower.h"

/* Product of the extents. */
int64_t we_window_positions(int32_t rank, const int64_t *dims);

/* [taps, N * C, positions] of what every tap sees of x [N, C, in...]; `fill` outside the input. */
int32_t we_emit_taps(we_lower *l, int32_t x, const we_window *w, double fill);

/* The transposed view: `w->in` are the positions of the window and `w->out` the extents of what it slides
 * over. [taps, N * C, out positions] with what each tap adds to each position, 0 elsewhere. x is [N, C, taps,
 * in...], or [N, C, in...] with a tap_step of 0; steps in elements. `by_channel` orders the result [N, C,
 * taps, out positions]. */
int32_t we_emit_spread(we_lower *l, int32_t x, int64_t n, int64_t channels, int64_t tap_step,
                       const we_window *w, bool by_channel);

/* weight [group, out / group, C / group * taps] times columns [N, C, taps, positions], plus the bias (-1:
 * none). */
int32_t we_emit_window_product(we_lower *l, int32_t weight, int32_t columns, int32_t bias, int64_t group,
                               int32_t into);

/* Convolution of x by weight over the window; bias is -1 where there is none. */
int32_t we_emit_conv(we_lower *l, int32_t x, int32_t weight, int32_t bias, const we_window *w, int64_t group,
                     int32_t into);

#endif
