#ifndef WE_RUN_EXPLAIN_H
#define WE_RUN_EXPLAIN_H

#include "run/prepare.h"

/* A prepared program as JSON; the caller frees it with we_memory_free. */
we_status we_explain(const we_graph *graph, const we_settings *settings, const we_prepared *prepared,
                     char **out, we_error *err);

/* "matmul" and so on. */
const char *we_command_name(we_command_kind kind);

#endif
