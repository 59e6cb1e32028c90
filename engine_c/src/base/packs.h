/* Constants in the forms that kernels want them in. Programs of one model share them: a form of a weight is
 * made once, whatever the number of sessions and shapes, and freed with the last program that uses it. */
#ifndef WE_BASE_PACKS_H
#define WE_BASE_PACKS_H

#include <pthread.h>

#include "base/threads.h"

enum {
    WE_PACK_PARAMETERS = 10,
    WE_PACK_BUCKETS = 256,
};

typedef struct we_pack we_pack;

/* The packs of one model. */
typedef struct we_packs {
    pthread_mutex_t lock;
    const char *file; /* the mapped model file; what lies elsewhere may come and go, and is not shared */
    size_t file_bytes;
    we_pack *buckets[WE_PACK_BUCKETS];
} we_packs;

void we_packs_init(we_packs *packs, const void *file, size_t file_bytes);
void we_packs_close(we_packs *packs); /* when no pack is left */

/* What tells one form of one constant from all others. Unused parameters are 0. */
typedef struct we_pack_key {
    const void *source; /* its elements */
    size_t source_bytes;
    const void *form; /* an address that stands for the way of packing, such as the kernel's */
    int64_t parameters[WE_PACK_PARAMETERS];
} we_pack_key;

/* Write the whole form; the pool may be used. */
typedef void (*we_pack_work)(we_pool *pool, const void *context, void *to);

/* A reference to the pack of that key, made by `work` if there is none yet; one of its own where `packs` is
 * NULL or the source is no part of the file. Once it is packed, the file's pages
 * of a weight need not stay in memory, and are given back; reading them again only costs time. */
we_status we_packs_get(we_packs *packs, we_pool *pool, const we_pack_key *key, size_t bytes,
                       we_pack_work work, const void *context, we_pack **out, we_error *err);
void we_pack_release(we_packs *packs, we_pack *pack);
const void *we_pack_bytes(const we_pack *pack);

#endif
