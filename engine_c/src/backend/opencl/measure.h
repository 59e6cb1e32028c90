/* What the cost model should believe of a device, measured. */
#ifndef WE_BACKEND_OPENCL_MEASURE_H
#define WE_BACKEND_OPENCL_MEASURE_H

#include "backend/opencl/device.h"

/* In a second at most, once its programs are built. */
we_status we_opencl_measure(we_opencl_device *device, we_clock clock_s, void *context,
                            we_opencl_parameters *out, we_error *err);

#endif
