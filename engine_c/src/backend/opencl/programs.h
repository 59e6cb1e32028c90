/* Programs from source, or from the file an earlier process left. */
#ifndef WE_BACKEND_OPENCL_PROGRAMS_H
#define WE_BACKEND_OPENCL_PROGRAMS_H

#include "backend/opencl/device.h"

/* A built program that the caller releases. The device's lock is held. */
we_status we_opencl_program(we_opencl_device *device, const char *source, const char *options, void **out,
                            we_error *err);

/* Of its platform, name and driver: devices alike have the same. */
uint64_t we_opencl_identity(const we_opencl_device *device);

enum { WE_OPENCL_PATH = 1024 };
/* The path of a file of that kind that is kept for the device; false where nothing is kept. */
bool we_opencl_kept_path(const we_opencl_device *device, const char *kind, char path[WE_OPENCL_PATH]);

#endif
