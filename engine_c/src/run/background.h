/* A program prepared by a thread of its own while an earlier one serves. */
#ifndef WE_RUN_BACKGROUND_H
#define WE_RUN_BACKGROUND_H

#include "run/prepare.h"

typedef struct we_background we_background;

/* Begin. Graph, settings and shapes must live until it is taken or freed. NULL where no thread is to be had.
 */
we_background *we_background_new(const we_graph *graph, const we_settings *settings, const we_view *shapes);
bool we_background_is_done(we_background *background);
void we_background_wait(we_background *background);
/* Wait for it, and end it; the program, or NULL where it could not be prepared, with what the error slot
 * says. */
we_status we_background_take(we_background *background, we_prepared **out, we_error *err);
void we_background_free(we_background *background); /* waits; NULL allowed */

#endif
