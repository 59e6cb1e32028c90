/* What rules share that end in a narrower type. */
#ifndef WE_GEOMETRY_QUANTISE_H
#define WE_GEOMETRY_QUANTISE_H

#include "geometry/lower.h"

/* Round `scaled` (F32 or F64) to even, add the zero point (-1: none), clip to the type of `into` and store. A
 * floating-point `into` is stored without rounding and clipping. */
void we_emit_quantised(we_lower *l, int32_t scaled, int32_t zero_point, int32_t into);

#endif
