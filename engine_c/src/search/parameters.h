/* What the cost model believes of the machine: standard values, or what a calibration measured here. One set
 * serves the process; a session copies it when it is made. Devices are known by an identity that does not ask
 * whether they are here, so nothing of this loads a driver. */
#ifndef WE_SEARCH_PARAMETERS_H
#define WE_SEARCH_PARAMETERS_H

#include "backend/opencl/device.h"
#include "kernels/kernels.h"

enum {
    WE_MAX_KERNELS = 64, /* micro-kernels of products */
};

#define WE_PARAMETER_LEAST 1e-6
#define WE_PARAMETER_MOST 1e12

typedef struct we_parameters {
#define WE_PARAMETER_ROW(name, standard, meaning) double name;
#include "search/parameters.inc"
#undef WE_PARAMETER_ROW
    double element[WE_ISA_COUNT], copy[WE_ISA_COUNT],
        bytes[WE_ISA_COUNT]; /* elements of an element-wise loop, bytes copied, products of bytes, per ns */
    double cycles[WE_MAX_KERNELS]; /* of a micro-kernel, by row: those of its formula in cost.c, per ns */
} we_parameters;

/* Of a device, as it was measured now or, by the file of a calibration, at another time; what its kind
 * suggests where it was not. */
we_opencl_parameters we_parameters_of_device(const we_opencl_device *device);
/* Believe what was measured of it. Devices alike share this, and it outlives their absence. */
void we_parameters_use_for(const we_opencl_device *device, const we_opencl_parameters *measured);
/* A copy of those of the process. */
we_parameters we_parameters_now(void);
/* The standard ones. */
we_parameters we_parameters_standard(void);
/* Let the process go by these; NULL: the standard ones. */
void we_parameters_use(const we_parameters *parameters);

/* Measure into *out, which holds values already, for at most about a second. Fails without memory. */
we_status we_parameters_measure(we_clock clock_s, void *context, we_parameters *out, we_error *err);

#endif
