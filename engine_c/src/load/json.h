/* A strict JSON reader (RFC 8259) with bounds on depth and on the number of values. Objects with a key twice
 * are refused; strings must be valid UTF-8 without NUL, since they become C strings. */
#ifndef WE_LOAD_JSON_H
#define WE_LOAD_JSON_H

#include <stdbool.h>

#include "base/memory.h"
#include <walle/engine.h>

typedef enum we_json_kind {
    WE_JSON_NULL,
    WE_JSON_BOOL,
    WE_JSON_NUMBER,
    WE_JSON_STRING,
    WE_JSON_ARRAY,
    WE_JSON_OBJECT,
} we_json_kind;

typedef struct we_json {
    we_json_kind kind;
    bool whole;      /* a number written without fraction or exponent that fits int64 */
    int64_t integer; /* of whole numbers; 0 or 1 of booleans */
    double real;
    const char *text; /* of strings, NUL-terminated */
    size_t length;    /* of text */
    const char *key;  /* of an object's members */
    size_t count;     /* children */
    struct we_json *first, *next;
} we_json;

/* Parse `size` bytes, which must hold one value and nothing but blanks around it. */
we_status we_json_parse(we_arena *arena, const char *bytes, size_t size, const char *what, we_json **out,
                        we_error *err);
/* Member of an object, or NULL. */
const we_json *we_json_get(const we_json *object, const char *key);

#endif
