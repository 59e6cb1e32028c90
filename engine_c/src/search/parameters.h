/* What the cost model believes of the machine: standard values, or what a calibration measured here. One set
 * serves the process; a session copies it when it is made. */
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
    double element[WE_ISA_COUNT],
        copy[WE_ISA_COUNT];        /* elements of an element-wise loop, bytes copied, per ns */
    double cycles[WE_MAX_KERNELS]; /* of a micro-kernel, by row: those of its formula in cost.c, per ns */
} we_parameters;

/* Those of a device, the first or another; `standard` is believed where nothing was measured. */
we_opencl_parameters we_parameters_of_device(const we_parameters *parameters, bool first,
                                             const we_opencl_parameters *standard);
/* A copy of those of the process. */
we_parameters we_parameters_now(void);
/* The standard ones. */
we_parameters we_parameters_standard(void);
/* Let the process go by these; NULL: the standard ones. */
void we_parameters_use(const we_parameters *parameters);

/* Measure into *out, which holds values already, for at most about a second. Fails without memory. */
we_status we_parameters_measure(we_clock clock_s, void *context, we_parameters *out, we_error *err);

#endif
