#include "search/cache.h"

#include <pthread.h>
#include <string.h>

#include "base/memory.h"

typedef struct entry {
    void *key;
    we_alternative *at;
    size_t size, count;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry entries[WE_CACHE_ENTRIES]; /* guarded by the lock, as is the next */
static size_t next;                     /* to be written */

static entry *find(const void *key, size_t size) {
    for (size_t i = 0; i < WE_CACHE_ENTRIES; i++) {
        if (entries[i].size == size && entries[i].key && memcmp(entries[i].key, key, size) == 0)
            return &entries[i];
    }
    return NULL;
}

static void drop(entry *e) {
    we_memory_free(e->key);
    we_memory_free(e->at);
    *e = (entry){0};
}

bool we_cache_find(const void *key, size_t size, we_alternatives *out) {
    pthread_mutex_lock(&lock);
    const entry *e = find(key, size);
    if (e) {
        memcpy(out->at, e->at, e->count * sizeof *e->at);
        out->count = e->count;
    }
    pthread_mutex_unlock(&lock);
    return e != NULL;
}

void we_cache_keep(const void *key, size_t size, const we_alternatives *list) {
    entry fresh = {we_memory_new_dirty(size), we_memory_new_dirty(list->count * sizeof *list->at), size,
                   list->count};
    if (!fresh.key || !fresh.at) {
        drop(&fresh);
        return;
    }
    memcpy(fresh.key, key, size);
    memcpy(fresh.at, list->at, list->count * sizeof *list->at);
    pthread_mutex_lock(&lock);
    entry *place = find(key, size);
    if (!place) {
        place = &entries[next];
        next = (next + 1) % WE_CACHE_ENTRIES;
    }
    entry old = *place;
    *place = fresh;
    pthread_mutex_unlock(&lock);
    drop(&old);
}

void we_cache_clear(void) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < WE_CACHE_ENTRIES; i++)
        drop(&entries[i]);
    next = 0;
    pthread_mutex_unlock(&lock);
}
