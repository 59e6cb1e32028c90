/* Programs on a device: what was recorded for one, the memory of a run, and playing the first on the second.
 * Nothing waits for the device but we_opencl_finish. */
#ifndef WE_BACKEND_OPENCL_PLAY_H
#define WE_BACKEND_OPENCL_PLAY_H

#include "backend/opencl/opencl.h"

typedef struct we_opencl_score we_opencl_score; /* of one prepared program; shared by its runs */
typedef struct we_opencl_space we_opencl_space; /* of one run at a time */

/* Where the plan of the program's memory puts a root, in bytes; below 0: a place of its own is made. */
typedef int64_t (*we_opencl_planned)(const void *plan, int32_t root);

/* How to record a program. */
typedef struct we_opencl_manner {
    we_opencl_parameters parameters; /* of the device */
    double tune_until_s;             /* products are timed until then */
    bool narrow;                     /* weights may be rounded to bfloat16 */
} we_opencl_manner;

/* Record the commands flagged in `here` and bring the constants they read to the device. */
we_status we_opencl_score_new(we_opencl_device *device, const we_opencl_manner *manner, we_program *program,
                              const bool *here, we_opencl_planned planned, const void *plan,
                              int64_t arena_bytes, we_opencl_score **out, we_error *err);
void we_opencl_score_free(we_opencl_score *score);
/* Of the device's memory: what each run takes, and the constants of all of them. */
int64_t we_opencl_score_bytes(const we_opencl_score *score);
int64_t we_opencl_score_constant_bytes(const we_opencl_score *score);

/* One launch; constants and work are the buffers of those spaces. The device's lock is held. CL's code. */
int32_t we_opencl_launch(const we_opencl_device *device, const we_tape *tape, const we_tape_launch *launch,
                         void *queue, void *work, void *constants);

we_status we_opencl_space_new(const we_opencl_score *score, we_opencl_space **out, we_error *err);
void we_opencl_space_free(we_opencl_space *space);

/* All bytes of a root tensor; the memory must stay until the next finish. */
we_status we_opencl_upload(we_opencl_space *space, int32_t root, const void *from, we_error *err);
we_status we_opencl_download(we_opencl_space *space, int32_t root, void *to, we_error *err);
we_status we_opencl_play(we_opencl_space *space, int32_t command, we_error *err);
/* Wait. INVALID_ARGUMENT where a command found something wrong with what it read. */
we_status we_opencl_finish(we_opencl_space *space, const we_graph *graph, we_error *err);

#endif
