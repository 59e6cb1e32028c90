/* The memory one run of a prepared program works in; kept for the next run of it. */
#ifndef WE_RUN_WORKSPACE_H
#define WE_RUN_WORKSPACE_H

#include "backend/opencl/play.h"
#include "plan/plan.h"

typedef struct we_workspace {
    struct we_workspace *next; /* for the owner's list of idle ones */
    void **memory;             /* per tensor; what does not move between runs is placed once */
    char *arena;               /* of tensors and scratch */
    we_opencl_space *away;     /* on the device; NULL where nothing runs there */
} we_workspace;

/* NULL when out of memory. */
we_workspace *we_workspace_new(const we_program *program, const we_plan *plan);
void we_workspace_free(we_workspace *w);

#endif
