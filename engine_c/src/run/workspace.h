/* The memory one run of a prepared program works in; kept for the next run of it. */
#ifndef WE_RUN_WORKSPACE_H
#define WE_RUN_WORKSPACE_H

#include "run/prepare.h"

typedef struct we_workspace {
    struct we_workspace *next; /* for the owner's list of idle ones */
    void **memory;
    char *arena;
    void *scratch;
} we_workspace;

we_workspace *we_workspace_new(const we_prepared *prepared); /* NULL when out of memory */
void we_workspace_free(we_workspace *w);

#endif
