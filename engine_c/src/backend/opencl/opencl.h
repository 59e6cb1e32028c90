/* The OpenCL back end. Commands of a kind that is not listed here, or whose types the device has not, run on
 * the CPU. */
#ifndef WE_BACKEND_OPENCL_OPENCL_H
#define WE_BACKEND_OPENCL_OPENCL_H

#include "backend/opencl/record.h"

enum {
    WE_OPENCL_GROUP = 256, /* work items of a group of kernels that do not choose one themselves */
};

/* Sources of the .cl files, which the build turns into text. */
extern const char we_cl_elementwise[], we_cl_reduce[], we_cl_raster[], we_cl_loop[], we_cl_matmul[],
    we_cl_window[], we_cl_rows[], we_cl_attention[];

#define WE_OPENCL_NAME "opencl"

/* Can the device run it? */
bool we_opencl_takes(const we_opencl_device *device, const we_program *program, const we_command *command);
/* Record a command that it takes. */
void we_opencl_record(we_recorder *r, const we_command *command);

/* ns that a command which it takes is expected to need. */
double we_opencl_cost_ns(const we_opencl_device *device, const we_opencl_parameters *parameters,
                         const we_program *program, const we_command *command);

/* Definitions that every program gets, with room for more behind them. */
enum { WE_OPENCL_OPTIONS = 512 };
void we_opencl_options(const we_recorder *r, we_dtype type, char options[WE_OPENCL_OPTIONS]);
size_t we_opencl_group(const we_recorder *r); /* WE_OPENCL_GROUP, or what the device can */

/* Each records one kind. */
void we_opencl_elementwise(we_recorder *r, const we_command *command);
bool we_opencl_casts(const we_opencl_device *device, we_dtype from, we_dtype to);
void we_opencl_reduce(we_recorder *r, const we_command *command);
void we_opencl_arg(we_recorder *r, const we_command *command);
void we_opencl_top(we_recorder *r, const we_command *command);
void we_opencl_random(we_recorder *r, const we_command *command);
void we_opencl_raster(we_recorder *r, const we_command *command);
void we_opencl_copy(we_recorder *r, int32_t from, int32_t to); /* of all bytes */
bool we_opencl_takes_loop(const we_opencl_device *device, const we_program *program, const we_loop *loop);
void we_opencl_loop(we_recorder *r, const we_command *command);
bool we_opencl_takes_matmul(const we_matmul *product);
void we_opencl_matmul(we_recorder *r, const we_command *command);

#endif
