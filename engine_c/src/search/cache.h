/* What was measured before, so that equal layers are timed once in a process. The key is bytes that say all
 * that matters (operator, attributes, shapes, threads, ...). At most WE_CACHE_ENTRIES are kept, the oldest
 * goes first. Any thread. */
#ifndef WE_SEARCH_CACHE_H
#define WE_SEARCH_CACHE_H

#include "search/search.h"

enum {
    WE_CACHE_ENTRIES = 1024,
};

bool we_cache_find(const void *key, size_t size, we_alternatives *out);
/* Replaces what the key had; without memory nothing is kept. */
void we_cache_keep(const void *key, size_t size, const we_alternatives *list);
void we_cache_clear(void);

#endif
