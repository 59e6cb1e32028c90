/* What was measured before, so that equal layers are timed once in a process, and by way of a file once on a
 * machine (we_measured_each, we_measured_add). The key is bytes that say all that matters (operator,
 * attributes, shapes, threads, ...), the text what was found. At most WE_CACHE_ENTRIES are kept, the oldest
 * goes first. Any thread. */
#ifndef WE_SEARCH_CACHE_H
#define WE_SEARCH_CACHE_H

#include "search/search.h"

enum {
    WE_CACHE_ENTRIES = 1024,
};

/* The times of those ways that were measured, where the key is known; which ways there are is the list's to
 * say. False where none is. */
bool we_cache_find(const void *key, size_t size, we_alternatives *list);
/* Replaces what the key had; without memory nothing is kept. lasting: for other processes, too. */
void we_cache_keep(const void *key, size_t size, const we_alternatives *list, bool lasting);

#endif
