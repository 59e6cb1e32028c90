/* Panels of a matrix in the order a micro-kernel reads them: `width` columns of B, stored [depth][width],
 * padded with zeros to the width. */
#ifndef WE_KERNELS_PACK_PACK_H
#define WE_KERNELS_PACK_PACK_H

#include <stdint.h>

/* Pack `lines` (<= width) lines of `depth` elements. Element (line i, depth p) is at from[i * line_step + p *
 * step]; steps of any sign, in elements. */
void we_pack_panel(const float *from, int64_t line_step, int64_t step, int64_t lines, int64_t width,
                   int64_t depth, float *to);

#endif
