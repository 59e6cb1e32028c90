/* What the device is to do for a program, recorded once while the session is prepared: a tape of launches
 * whose arguments are complete but for the memory of a run. Playing it decides nothing. Invariants:
 *  - a tensor of the device lies in one of two buffers: `work`, which each run has its own of, or
 * `constants`;
 *  - the first failure sticks in `status`, and what is recorded after it is ignored;
 *  - a kernel finds a tensor by a buffer and the bytes before it, so views and parts need no buffers of their
 * own. */
#ifndef WE_BACKEND_OPENCL_RECORD_H
#define WE_BACKEND_OPENCL_RECORD_H

#include "backend/backend.h"
#include "backend/opencl/device.h"

enum {
    WE_TAPE_DIMS = 3,
    WE_TAPE_CHECK_BYTES = 64, /* at the start of `work`: what a kernel found wrong with its inputs */
};

typedef enum we_space {
    WE_SPACE_NONE, /* not placed (yet) */
    WE_SPACE_WORK,
    WE_SPACE_CONSTANT,
} we_space;

typedef struct we_spot {
    we_space space;
    int64_t at; /* bytes */
} we_spot;

typedef struct we_tape_argument {
    we_space space; /* NONE: a value of `size` bytes */
    uint32_t size, at;
} we_tape_argument;

typedef struct we_tape_launch {
    const we_opencl_kernel *kernel;
    int32_t command;
    uint32_t first, count; /* arguments */
    uint32_t dims;
    size_t global[WE_TAPE_DIMS], local[WE_TAPE_DIMS];
} we_tape_launch;

/* Bytes for the buffer of constants. */
typedef struct we_tape_upload {
    const void *bytes;
    size_t size; /* of these */
    int64_t at;
    we_dtype form; /* of 16 bits: the bytes are float32, which are stored so; else they go as they are */
} we_tape_upload;

typedef struct we_tape {
    we_tape_launch *launches;
    we_tape_argument *arguments;
    char *values;
    we_tape_upload *uploads;
    size_t launch_count, launch_room, argument_count, argument_room, value_bytes, value_room, upload_count,
        upload_room;
    int64_t constant_bytes, scratch_bytes;
    bool checks; /* some launch looks at its inputs */
} we_tape;

typedef struct we_recorder {
    we_opencl_device *device;
    we_opencl_parameters parameters;
    we_program *program;
    we_tape *tape;
    we_spot *spots;      /* per tensor; a loop moves its views */
    int64_t scratch_at;  /* where scratch of all commands begins in `work` */
    int32_t command;     /* at work */
    double tune_until_s; /* of the monotonic clock: until then products may be timed in all ways */
    bool narrow;         /* weights of products may be rounded to bfloat16: 'medium' */
    we_error *err;
    we_status status;
} we_recorder;

/* The types of elements as OpenCL has them; NULL: it has not. */
const char *we_opencl_type(we_dtype dtype);

/* ---- One launch: its kernel, then its arguments in order, then its size ---- */

void we_record_kernel(we_recorder *r, const char *source, const char *options, const char *name);
void we_record_tensor(we_recorder *r, int32_t tensor);           /* buffer, bytes */
void we_record_spot(we_recorder *r, we_spot place);              /* likewise */
void we_record_buffer(we_recorder *r, we_space space);           /* the buffer alone */
void we_record_scratch(we_recorder *r, int64_t at, int64_t end); /* likewise; [at, end) of it is used */
void we_record_check(we_recorder *r);                            /* the buffer with what is wrong */
void we_record_int(we_recorder *r, int64_t value);               /* an int, or DEVICE where it is none */
void we_record_long(we_recorder *r, int64_t value);
void we_record_float(we_recorder *r, float value);
void we_record_bytes(we_recorder *r, const void *value, size_t size);
/* `count` work items in groups of `local`; the kernel looks whether it is past the end. */
void we_record_items(we_recorder *r, int64_t count, size_t local);
void we_record_groups(we_recorder *r, const int64_t groups[WE_TAPE_DIMS], size_t local);

we_spot we_record_spot_of(we_recorder *r, int32_t tensor);
/* Where those bytes lie on the device; they must live as long as the program. */
we_spot we_record_constant(we_recorder *r, const void *bytes, size_t size);
/* The same for weights that a kernel reads in any form: *form is F16 where that holds each of them exactly,
 * as those of models of 16-bit floats; else BF16 where they may be rounded; else F32. */
we_spot we_record_weights(we_recorder *r, const float *weights, int64_t count, we_dtype *form);
void we_record_fail(we_recorder *r, we_status status);

void we_tape_free(we_tape *tape);

#endif
