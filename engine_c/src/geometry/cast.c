/* Rules of type conversions. */
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"

/* Serves Cast and CastLike: shape inference has found the target type. */
void we_rule_cast(we_lower *l) {
    const char *mode = we_node_string(l->call.node, "round_mode", "up");
    we_cast how = {.overflow = we_node_int(l->call.node, "saturate", 1) == 0};
    if (strcmp(mode, "up") == 0)
        how.rounding = WE_ROUND_UP;
    else if (strcmp(mode, "down") == 0)
        how.rounding = WE_ROUND_DOWN;
    else if (strcmp(mode, "nearest") == 0)
        how.rounding = WE_ROUND_NEAREST;
    else
        we_lower_fail(l, WE_INVALID_MODEL, "attribute 'round_mode' must be 'up', 'down' or 'nearest'");
    we_emit_cast_as(l, how, l->in[0], WE_DTYPE_COUNT, l->out[0]);
}

/* The same bytes under another type: one raster between types of one width. */
void we_rule_bit_cast(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_emit_reshape(l, l->in[0], out.rank, out.dims, l->out[0]);
}
