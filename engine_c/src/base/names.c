#include "base/names.h"

#include <string.h>

#include "base/memory.h"

typedef struct we_name_slot {
    const char *key;
    int32_t value;
} we_name_slot;

/* FNV-1a, 64 bits. Source: Fowler, Noll, Vo; constants of the published reference. */
static uint64_t hash(const char *key) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3u;
    return h ^ h >> 32;
}

static we_name_slot *place(const we_names *names, const char *key) {
    size_t i = (size_t)hash(key) & (names->capacity - 1);
    while (names->slots[i].key && strcmp(names->slots[i].key, key) != 0)
        i = (i + 1) & (names->capacity - 1);
    return &names->slots[i];
}

int32_t we_names_find(const we_names *names, const char *key) {
    if (!names->capacity)
        return -1;
    const we_name_slot *slot = place(names, key);
    return slot->key ? slot->value : -1;
}

bool we_names_add(we_names *names, const char *key, int32_t value) {
    if (names->count * 2 >= names->capacity) {
        we_names bigger = {.capacity = names->capacity ? names->capacity * 2 : 64, .count = names->count};
        bigger.slots = we_memory_new(bigger.capacity * sizeof *bigger.slots);
        if (!bigger.slots)
            return false;
        for (size_t i = 0; i < names->capacity; i++) {
            if (names->slots[i].key)
                *place(&bigger, names->slots[i].key) = names->slots[i];
        }
        we_memory_free(names->slots);
        *names = bigger;
    }
    *place(names, key) = (we_name_slot){key, value};
    names->count++;
    return true;
}

void we_names_free(we_names *names) {
    we_memory_free(names->slots);
    *names = (we_names){0};
}
