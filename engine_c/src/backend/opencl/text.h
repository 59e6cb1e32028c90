/* Text of a program while it is written; what does not fit sets `failed`. */
#ifndef WE_BACKEND_OPENCL_TEXT_H
#define WE_BACKEND_OPENCL_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

enum { WE_TEXT_BYTES = 24 << 10 };

typedef struct we_text {
    char bytes[WE_TEXT_BYTES];
    size_t length;
    bool failed;
} we_text;

static inline void WE_PRINTF(2, 3) we_text_add(we_text *t, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(t->bytes + t->length, sizeof t->bytes - t->length, format, arguments);
    va_end(arguments);
    t->failed = t->failed || length < 0 || (size_t)length >= sizeof t->bytes - t->length;
    t->length += t->failed ? 0 : (size_t)length;
}

#endif
