/* A set of texts where equal ones are one: two pointers it gave are equal exactly if the texts are. */
#ifndef WE_BASE_TEXTS_H
#define WE_BASE_TEXTS_H

#include "base/memory.h"
#include "base/names.h"

typedef struct we_texts {
    we_arena arena;
    we_names names;
    const char **items;
    size_t count, room;
    size_t bytes, limit; /* of all texts together */
} we_texts;

/* The set's own copy of `length` bytes, which hold no NUL; NULL when out of memory or past the limit. */
const char *we_texts_add(we_texts *texts, const char *text, size_t length);
void we_texts_free(we_texts *texts);

#endif
