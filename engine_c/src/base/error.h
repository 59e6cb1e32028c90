/* The error slot. A slot holds the first failure; whoever hits it fills it and returns the status unchanged
 * upwards. */
#ifndef WE_BASE_ERROR_H
#define WE_BASE_ERROR_H

#include <walle/engine.h>

#if defined(__GNUC__)
#define WE_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define WE_PRINTF(format_index, first)
#endif

/* Leave the calling function with the status of `expression` unless it is WE_OK. Only where nothing needs
 * clean-up. */
#define WE_TRY(expression)                                                                                   \
    do {                                                                                                     \
        we_status try_status_ = (expression);                                                                \
        if (try_status_ != WE_OK)                                                                            \
            return try_status_;                                                                              \
    } while (0)

/* Fill the slot (NULL allowed) and return `status`. */
we_status we_error_set(we_error *err, we_status status, const char *format, ...) WE_PRINTF(3, 4);
/* The same, naming the operator and the node concerned (NULL allowed). */
we_status we_error_set_at(we_error *err, we_status status, const char *op, const char *node,
                          const char *format, ...) WE_PRINTF(5, 6);
/* Name op and node in a slot that holds a failure without them. */
void we_error_locate(we_error *err, const char *op, const char *node);
void we_error_clear(we_error *err);
we_status we_error_no_memory(we_error *err);

#endif
