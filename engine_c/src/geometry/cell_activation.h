/* The activation functions a recurrent operator may name. */
#ifndef WE_GEOMETRY_CELL_ACTIVATION_H
#define WE_GEOMETRY_CELL_ACTIVATION_H

#include "geometry/lower.h"

typedef enum we_activation_kind {
#define WE_ACTIVATION_ROW(Name, alpha, beta) WE_ACTIVATION_##Name,
#include "geometry/cell_activations.inc"
#undef WE_ACTIVATION_ROW
    WE_ACTIVATION_COUNT
} we_activation_kind;

typedef struct we_activation {
    we_activation_kind kind;
    double alpha, beta;
} we_activation;

/* What RNN, GRU or LSTM use where the node names nothing; *count of them per direction. */
const we_activation_kind *we_usual_activations(int32_t op, int32_t *count);
/* The `count` functions of one direction: those the node names from `first` on, else `fallback`. alpha and
 * beta are consumed in the order of the functions that have them. */
void we_activations_of(we_lower *l, int32_t first, int32_t count, const we_activation_kind *fallback,
                       we_activation *out);
int32_t we_emit_activation(we_lower *l, const we_activation *activation, int32_t x, int32_t into);

#endif
