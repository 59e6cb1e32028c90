/* What WALLE_ENGINE_DISABLE switches off in every session of the process. */
#ifndef WE_BASE_SWITCHES_H
#define WE_BASE_SWITCHES_H

#include <walle/engine.h>

/* Bits of we_session_flag. The environment is read at the first call of the process. CONFIG for an unknown
 * word, then and ever after. */
we_status we_switches_off(uint32_t *out, we_error *err);

/* The same for a given list of words between commas, without the environment (NULL: none). */
we_status we_switches_parse(const char *words, uint32_t *out, we_error *err);

#endif
