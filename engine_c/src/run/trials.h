/* Preparation with measured search: nodes run by themselves, in each of their ways, on memory of their own
 * and with the session's threads; the fastest way is taken. */
#ifndef WE_RUN_TRIALS_H
#define WE_RUN_TRIALS_H

#include "run/prepare.h"

/* As we_prepare; where the settings ask for it, after timing. */
we_status we_prepare_searched(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                              we_prepared **out, size_t *reached, we_error *err);

#endif
