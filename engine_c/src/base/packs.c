#include "base/packs.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

struct we_pack {
    we_pack *next; /* in its bucket */
    we_pack_key key;
    int64_t users;
    bool shared;
    void *bytes;
};

void we_packs_init(we_packs *packs, const void *file, size_t file_bytes) {
    *packs = (we_packs){.file = file, .file_bytes = file_bytes};
    pthread_mutex_init(&packs->lock, NULL);
}

void we_packs_close(we_packs *packs) {
    pthread_mutex_destroy(&packs->lock);
}

static bool lies_in_file(const we_packs *packs, const we_pack_key *key) {
    if (!packs || !packs->file)
        return false;
    uintptr_t begin = (uintptr_t)packs->file, at = (uintptr_t)key->source;
    return at >= begin && at - begin <= packs->file_bytes &&
           key->source_bytes <= packs->file_bytes - (at - begin);
}

/* FNV-1a. Source: Fowler, Noll, Vo, IETF draft-eastlake-fnv. */
static we_pack **bucket_of(we_packs *packs, const we_pack_key *key) {
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return &packs->buckets[hash % WE_PACK_BUCKETS];
}

static we_pack *find(we_packs *packs, const we_pack_key *key) {
    we_pack *pack = *bucket_of(packs, key);
    while (pack && memcmp(&pack->key, key, sizeof *key) != 0)
        pack = pack->next;
    return pack;
}

static we_pack *make(const we_pack_key *key, size_t bytes, we_pool *pool, we_pack_work work,
                     const void *context) {
    we_pack *pack = we_memory_new(sizeof *pack);
    if (!pack)
        return NULL;
    *pack = (we_pack){.key = *key, .users = 1, .bytes = we_memory_new_dirty(bytes)};
    if (!pack->bytes) {
        we_memory_free(pack);
        return NULL;
    }
    work(pool, context, pack->bytes);
    return pack;
}

we_status we_packs_get(we_packs *packs, we_pool *pool, const we_pack_key *key, size_t bytes,
                       we_pack_work work, const void *context, we_pack **out, we_error *err) {
    if (!lies_in_file(packs, key)) {
        *out = make(key, bytes, pool, work, context);
        return *out ? WE_OK : we_error_no_memory(err);
    }
    pthread_mutex_lock(&packs->lock); /* whoever wants the same waits for it to be made */
    *out = find(packs, key);
    if (*out) {
        (*out)->users++;
    } else if ((*out = make(key, bytes, pool, work, context))) {
        we_pack **bucket = bucket_of(packs, key);
        (*out)->shared = true;
        (*out)->next = *bucket;
        *bucket = *out;
        we_memory_forget(key->source, key->source_bytes);
    }
    pthread_mutex_unlock(&packs->lock);
    return *out ? WE_OK : we_error_no_memory(err);
}

void we_pack_release(we_packs *packs, we_pack *pack) {
    bool last = true;
    if (pack->shared) {
        pthread_mutex_lock(&packs->lock);
        last = --pack->users == 0;
        we_pack **link = bucket_of(packs, &pack->key);
        while (last && *link != pack)
            link = &(*link)->next;
        if (last)
            *link = pack->next;
        pthread_mutex_unlock(&packs->lock);
    }
    if (!last)
        return;
    we_memory_free(pack->bytes);
    we_memory_free(pack);
}

const void *we_pack_bytes(const we_pack *pack) {
    return pack->bytes;
}
