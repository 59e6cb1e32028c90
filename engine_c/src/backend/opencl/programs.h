/* Programs from source, or from the file an earlier process left. */
#ifndef WE_BACKEND_OPENCL_PROGRAMS_H
#define WE_BACKEND_OPENCL_PROGRAMS_H

#include "backend/opencl/device.h"

/* A built program that the caller releases. The device's lock is held. */
we_status we_opencl_program(we_opencl_device *device, const char *source, const char *options, void **out,
                            we_error *err);

#endif
