#include "base/texts.h"

#include <string.h>

enum {
    NEAR = 256, /* bytes: texts shorter than this are looked up through a copy on the stack */
};

static const char *known(const we_texts *texts, const char *text) {
    int32_t index = we_names_find(&texts->names, text);
    return index < 0 ? NULL : texts->items[index];
}

const char *we_texts_add(we_texts *texts, const char *text, size_t length) {
    if (length < NEAR) {
        char copy[NEAR];
        memcpy(copy, text, length);
        copy[length] = '\0';
        const char *found = known(texts, copy);
        if (found)
            return found;
    }
    if (texts->limit && texts->bytes + length + 1 > texts->limit)
        return NULL;
    const char *own = we_arena_text(&texts->arena, text, length);
    if (!own)
        return NULL;
    texts->bytes += length + 1;
    const char *found = length < NEAR ? NULL : known(texts, own);
    if (found)
        return found;
    if (texts->count >= INT32_MAX ||
        !we_memory_grow((void **)&texts->items, &texts->room, texts->count, sizeof *texts->items) ||
        !we_names_add(&texts->names, own, (int32_t)texts->count))
        return NULL;
    texts->items[texts->count++] = own;
    return own;
}

void we_texts_free(we_texts *texts) {
    we_names_free(&texts->names);
    we_memory_free(texts->items);
    we_arena_free(&texts->arena);
    memset(texts, 0, sizeof *texts);
}
