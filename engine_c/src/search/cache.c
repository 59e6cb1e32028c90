#include "search/cache.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* A way's line: "<picoseconds> <claim> <candidate>\n", the latter two "-" where there is none. */
#define NONE "-"
enum {
    LINE = 192,
    MOST_KEY = 1 << 16, /* bytes */
    MOST_TEXT = LINE * WE_MAX_ALTERNATIVES,
};
static const double PICOSECONDS = 1e9; /* of a millisecond; whole numbers are the same in all languages */

typedef struct entry {
    void *key;
    char *text;
    size_t size;  /* of the key */
    bool lasting; /* for other processes, too */
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry entries[WE_CACHE_ENTRIES]; /* guarded by the lock, as are the next two */
static size_t next;                     /* to be written */
static uint64_t found;                  /* by measuring, since the process began, to last */

/* ---- Lines ---- */

static const char *claim_name(const we_alternative *a) {
    return a->claim < 0 ? NONE : we_claim_row(a->claim)->name;
}

static const char *candidate_name(const we_alternative *a) {
    return a->candidate ? a->candidate : NONE;
}

/* Names of candidates may have spaces. */
static char *text_of(const we_alternatives *list) {
    size_t at = 0;
    char *text = we_memory_new(list->count * LINE + 1);
    for (size_t i = 0; text && i < list->count; i++) {
        const we_alternative *a = &list->at[i];
        char line[LINE];
        int length = snprintf(line, sizeof line, "%.0f %s %s\n", a->measured_ms * PICOSECONDS, claim_name(a),
                              candidate_name(a));
        if (a->measured_ms < 0 || length >= LINE)
            continue;
        memcpy(text + at, line, (size_t)length);
        at += (size_t)length;
    }
    return text;
}

/* Does the line, which ends at `end`, tell the time of that way? */
static bool read_line(const char *line, const char *end, const we_alternative *a, double *ms) {
    char want[LINE];
    int64_t picoseconds = 0;
    int length = snprintf(want, sizeof want, " %s %s", claim_name(a), candidate_name(a));
    const char *at = line;
    for (; at < end && at - line < 18 && *at >= '0' && *at <= '9'; at++)
        picoseconds = picoseconds * 10 + (*at - '0');
    if (at == line || length != end - at || memcmp(want, at, (size_t)length) != 0)
        return false;
    *ms = (double)picoseconds / PICOSECONDS;
    return true;
}

static bool read_text(const char *text, we_alternatives *list) {
    bool any = false;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        for (size_t i = 0; i < list->count; i++)
            any = read_line(text, end, &list->at[i], &list->at[i].measured_ms) || any;
    }
    return any;
}

/* ---- Entries ---- */

static entry *find(const void *key, size_t size) {
    for (size_t i = 0; i < WE_CACHE_ENTRIES; i++) {
        if (entries[i].size == size && entries[i].key && memcmp(entries[i].key, key, size) == 0)
            return &entries[i];
    }
    return NULL;
}

static void drop(entry *e) {
    we_memory_free(e->key);
    we_memory_free(e->text);
    *e = (entry){0};
}

/* Takes over the text; false without memory. */
static bool keep(const void *key, size_t size, char *text, bool lasting) {
    entry fresh = {we_memory_new_dirty(size), text, size, lasting};
    if (!fresh.key || !fresh.text) {
        drop(&fresh);
        return false;
    }
    memcpy(fresh.key, key, size);
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
    return true;
}

bool we_cache_find(const void *key, size_t size, we_alternatives *list) {
    pthread_mutex_lock(&lock);
    const entry *e = find(key, size);
    bool any = e && read_text(e->text, list);
    pthread_mutex_unlock(&lock);
    return any;
}

void we_cache_keep(const void *key, size_t size, const we_alternatives *list, bool lasting) {
    if (size > MOST_KEY || !keep(key, size, text_of(list), lasting))
        return;
    pthread_mutex_lock(&lock);
    found += lasting;
    pthread_mutex_unlock(&lock);
}

/* ---- For who keeps them ---- */

uint64_t we_measured_count(void) {
    pthread_mutex_lock(&lock);
    uint64_t count = found;
    pthread_mutex_unlock(&lock);
    return count;
}

void we_measured_each(we_measured_visit visit, void *context) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < WE_CACHE_ENTRIES; i++) { /* the oldest first */
        const entry *e = &entries[(next + i) % WE_CACHE_ENTRIES];
        if (e->key && e->lasting)
            visit(context, e->key, e->size, e->text);
    }
    pthread_mutex_unlock(&lock);
}

we_status we_measured_add(const void *key, size_t size, const char *text, we_error *err) {
    size_t length = text ? strlen(text) : 0;
    if (!key || size == 0 || size > MOST_KEY || length == 0 || length > MOST_TEXT)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "a measurement of %zu bytes under a key of %zu is none of this engine's", length,
                            size);
    char *copy = we_memory_new_dirty(length + 1);
    if (copy)
        memcpy(copy, text, length + 1);
    return keep(key, size, copy, true) ? WE_OK : we_error_no_memory(err);
}

void we_measured_forget(void) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < WE_CACHE_ENTRIES; i++)
        drop(&entries[i]);
    next = 0;
    pthread_mutex_unlock(&lock);
}
