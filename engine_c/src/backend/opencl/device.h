/* Devices of this machine and what is kept of each for the life of the process: its context and the kernels
 * that were built for it. Invariants:
 *  - devices are listed once per process, GPUs first, and never closed;
 *  - a kernel is built once per process; its program comes from the cache folder if an earlier process built
 * it;
 *  - a kernel that faults takes the context with all that belongs to it; whoever opens the device next gets a
 * new one, and what the old one had is left to the process's end;
 *  - `lock` guards the kernels: the arguments of one are set and its launch is queued under it. */
#ifndef WE_BACKEND_OPENCL_DEVICE_H
#define WE_BACKEND_OPENCL_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <walle/engine.h>

#include "backend/opencl/library.h"

typedef struct we_opencl_kernel we_opencl_kernel;
typedef struct we_opencl_tuning we_opencl_tuning; /* of tune.c */

/* What the cost model believes of a device. */
typedef struct we_opencl_parameters {
    double products;           /* multiply-adds of float32 per ns, of all units together */
    double bandwidth;          /* bytes of its own memory per ns */
    double launch;             /* ns to start a kernel behind another */
    double to_rate, from_rate; /* bytes per ns to the device and back */
    double copy;               /* ns to start a copy either way */
} we_opencl_parameters;

typedef struct we_opencl_device {
    const we_cl *cl;
    void *id, *context; /* context: NULL until it is opened */
    char name[96], platform[64], driver[64];
    uint64_t type;
    uint32_t units;                    /* compute units */
    uint32_t width;                    /* floats of the vectors that it computes with: 4, 8 or 16 */
    size_t group, local_bytes;         /* work items of a group, its local memory */
    uint64_t memory_bytes, most_bytes; /* of all memory, of one buffer */
    bool f64, f16, exact_division, unified;
    we_opencl_parameters parameters;
    _Atomic bool lost; /* the context is of no more use */
    pthread_mutex_t lock;
    we_opencl_kernel *kernels;
    pthread_mutex_t tuning_lock; /* guards the next two */
    we_opencl_tuning *tunings;
    bool tunings_read;
} we_opencl_device;

struct we_opencl_kernel {
    we_opencl_kernel *next;
    char *key; /* name, options and source */
    void *kernel;
};

/* How many there are; *out is the array of them. */
size_t we_opencl_devices(we_opencl_device **out);

/* The device with that number, ready for use. CONFIG where there is none, DEVICE where it fails. */
we_status we_opencl_open(size_t number, we_opencl_device **out, we_error *err);

/* The kernel `name` of a program, built if need be. `options` are definitions for the compiler. DEVICE with
 * the compiler's words where it does not build. */
we_status we_opencl_kernel_get(we_opencl_device *device, const char *source, const char *options,
                               const char *name, const we_opencl_kernel **out, we_error *err);

/* The failure of a call as status and message: OUT_OF_MEMORY or DEVICE; then the device may be lost. */
we_status we_opencl_failed(we_error *err, we_opencl_device *device, const char *call, int32_t code);

/* Keep built programs in files of that folder; NULL: do not. */
void we_opencl_keep_programs(const char *folder);

#endif
