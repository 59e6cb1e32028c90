/* What a session's steps took. Invariants:
 *  - a session has one profile from birth to death; recording is switched on and off;
 *  - events come from any thread, in the order their steps end;
 *  - at most WE_PROFILE_EVENTS are kept, later ones are only counted;
 *  - a step that began before the latest start adds nothing. */
#ifndef WE_RUN_PROFILE_H
#define WE_RUN_PROFILE_H

#include <stdbool.h>

#include <walle/engine.h>

enum { WE_PROFILE_EVENTS = 1 << 18 };

typedef struct we_profile we_profile;

we_status we_profile_new(we_profile **out, we_error *err);
void we_profile_free(we_profile *profile);

/* Forget what was recorded and record from now on. `clock_s` gives seconds; NULL means the monotonic clock.
 */
void we_profile_start(we_profile *profile, we_clock clock_s, void *context);
void we_profile_stop(we_profile *profile);
size_t we_profile_count(we_profile *profile, int64_t *dropped);
bool we_profile_get(we_profile *profile, size_t index, we_profile_event *out); /* false past the end */

bool we_profile_is_on(we_profile *profile);

/* Begin a step: fill start_s, and name the recording it belongs to. False where nothing is recorded, and then
 * it must not be ended. */
bool we_profile_begin(we_profile *profile, we_profile_event *event, int64_t *recording);
/* End it: fill end_s and thread, and keep it. The strings must live as long as the session. */
void we_profile_end(we_profile *profile, we_profile_event *event, int64_t recording);

#endif
