/* A map from names to small numbers; keys are borrowed and must outlive it. */
#ifndef WE_BASE_NAMES_H
#define WE_BASE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct we_names {
    struct we_name_slot *slots;
    size_t capacity, count;
} we_names;

int32_t we_names_find(const we_names *names, const char *key); /* -1 if absent */
bool we_names_add(we_names *names, const char *key,
                  int32_t value); /* the key must be absent; false: no memory */
void we_names_free(we_names *names);

#endif
