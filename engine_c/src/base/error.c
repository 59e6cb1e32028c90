#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const STATUS_NAMES[] = {
#define WE_STATUS_ROW(code, meaning) #code,
#include <walle/status.inc>
#undef WE_STATUS_ROW
};

const char *we_status_name(we_status status) {
    return (unsigned)status < WE_STATUS_COUNT ? STATUS_NAMES[status] : "?";
}

/* Copy as much as fits, never cutting a UTF-8 sequence in two. */
static void copy_text(char *to, size_t room, const char *from) {
    size_t length = from ? strlen(from) : 0;
    if (length >= room) {
        length = room - 1;
        while (length > 0 && ((unsigned char)from[length] & 0xC0) == 0x80)
            length--;
    }
    if (length)
        memcpy(to, from, length);
    to[length] = '\0';
}

static void fill(we_error *err, we_status status, const char *op, const char *node, const char *format,
                 va_list arguments) {
    char text[2 * WE_ERROR_TEXT];
    if (!err)
        return;
    err->status = status;
    vsnprintf(text, sizeof text, format, arguments);
    copy_text(err->message, sizeof err->message, text);
    copy_text(err->op, sizeof err->op, op);
    copy_text(err->node, sizeof err->node, node);
}

we_status we_error_set(we_error *err, we_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fill(err, status, NULL, NULL, format, arguments);
    va_end(arguments);
    return status;
}

we_status we_error_set_at(we_error *err, we_status status, const char *op, const char *node,
                          const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fill(err, status, op, node, format, arguments);
    va_end(arguments);
    return status;
}

void we_error_locate(we_error *err, const char *op, const char *node) {
    if (!err || err->status == WE_OK || err->op[0])
        return;
    copy_text(err->op, sizeof err->op, op);
    copy_text(err->node, sizeof err->node, node);
}

void we_error_clear(we_error *err) {
    if (err)
        memset(err, 0, sizeof *err);
}

we_status we_error_no_memory(we_error *err) {
    return we_error_set(err, WE_OUT_OF_MEMORY, "out of memory: free some, or use a smaller model or batch");
}
