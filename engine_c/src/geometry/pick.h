/* Reading rows by a table that is known beforehand, as few regions. */
#ifndef WE_GEOMETRY_PICK_H
#define WE_GEOMETRY_PICK_H

#include "geometry/lower.h"

/* dst[offset + (o, i, ...)] = x[o, table[i], ...] for i < count; x is [outer, axis, inner], what is written
 * [outer, count, inner]. */
typedef struct we_picked {
    int64_t outer, axis, inner, count;
    const int64_t *table; /* entries within the axis */
    int64_t offset;
} we_picked;

void we_pick(we_lower *l, we_raster *raster, int32_t source, const we_picked *picked);

#endif
