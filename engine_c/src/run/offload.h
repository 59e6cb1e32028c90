/* The commands of a program in two places. What runs where is decided before; here it becomes a row of steps:
 * commands, and copies of what one place wrote and the other reads. Both places use one plan of memory, so a
 * tensor has the same life in either. */
#ifndef WE_RUN_OFFLOAD_H
#define WE_RUN_OFFLOAD_H

#include "backend/opencl/play.h"
#include "plan/plan.h"

typedef enum we_step_kind {
    WE_STEP_RUN,       /* a command */
    WE_STEP_TO_DEVICE, /* copy a root tensor */
    WE_STEP_TO_HOST,
} we_step_kind;

typedef struct we_offload_step {
    we_step_kind kind;
    int32_t index; /* command or tensor */
} we_offload_step;

typedef struct we_offload {
    we_opencl_score *score;
    we_offload_step *steps;
    size_t step_count, room;
} we_offload;

/* For commands whose `away` is settled. */
we_status we_offload_new(we_opencl_device *device, const we_opencl_manner *manner, we_program *program,
                         const we_plan *plan, const int32_t *outputs, size_t output_count, we_offload **out,
                         we_error *err);
void we_offload_free(we_offload *offload);

#endif
