/* The OpenCL library of this machine, loaded when it is first asked for: the engine links to none and is
 * built without its headers. */
#ifndef WE_BACKEND_OPENCL_LIBRARY_H
#define WE_BACKEND_OPENCL_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

/* Codes of the standard that are used here. */
enum {
    WE_CL_PLATFORM_NAME = 0x0902,
    WE_CL_DEVICE_TYPE = 0x1000,
    WE_CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002,
    WE_CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
    WE_CL_DEVICE_PREFERRED_VECTOR_WIDTH_FLOAT = 0x100A,
    WE_CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    WE_CL_DEVICE_SINGLE_FP_CONFIG = 0x101B,
    WE_CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F,
    WE_CL_DEVICE_LOCAL_MEM_SIZE = 0x1023,
    WE_CL_DEVICE_NAME = 0x102B,
    WE_CL_DRIVER_VERSION = 0x102D,
    WE_CL_DEVICE_VERSION = 0x102F,
    WE_CL_DEVICE_EXTENSIONS = 0x1030,
    WE_CL_DEVICE_HOST_UNIFIED_MEMORY = 0x1035,
    WE_CL_PROGRAM_BINARY_SIZES = 0x1165,
    WE_CL_PROGRAM_BINARIES = 0x1166,
    WE_CL_PROGRAM_BUILD_LOG = 0x1183,

    WE_CL_TYPE_CPU = 1 << 1,
    WE_CL_TYPE_GPU = 1 << 2,
    WE_CL_TYPE_ACCELERATOR = 1 << 3,
    WE_CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT = 1 << 7,
    WE_CL_MEM_READ_WRITE = 1 << 0,
    WE_CL_MEM_READ_ONLY = 1 << 2,
    WE_CL_MEM_ALLOC_HOST_PTR = 1 << 4,

    WE_CL_MEM_OBJECT_ALLOCATION_FAILURE = -4,
    WE_CL_OUT_OF_RESOURCES = -5,
    WE_CL_OUT_OF_HOST_MEMORY = -6,
    WE_CL_BUILD_PROGRAM_FAILURE = -11,
    WE_CL_EXEC_STATUS_ERROR = -14,
    WE_CL_INVALID_COMMAND_QUEUE = -36,
    WE_CL_INVALID_BUFFER_SIZE = -61,
    WE_CL_NVIDIA_ILLEGAL_ACCESS = -9999,
};

#define WE_CL_ANY_TYPE 0xFFFFFFFFu

typedef struct we_cl {
#define WE_CL_FN(result, name, parameters) result(*name) parameters;
#include "backend/opencl/library.inc"
#undef WE_CL_FN
} we_cl;

/* The library's functions; NULL where there is no library, or one that lacks some. Never unloaded. */
const we_cl *we_cl_library(void);

/* "CL_OUT_OF_RESOURCES" and so on. */
const char *we_cl_error_name(int32_t code);

#endif
