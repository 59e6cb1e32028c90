#include "backend/opencl/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

static we_cl functions;
static bool loaded;

static void load(void) {
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return;
    loaded = true;
#define WE_CL_FN(result, name, parameters)                                                                   \
    *(void **)&functions.name = dlsym(library, "cl" #name);                                                  \
    loaded = loaded && functions.name;
#include "backend/opencl/library.inc"
#undef WE_CL_FN
}

const we_cl *we_cl_library(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded ? &functions : NULL;
}

const char *we_cl_error_name(int32_t code) {
    static const struct {
        int32_t code;
        const char *name;
    } NAMES[] = {
        {-1, "CL_DEVICE_NOT_FOUND"},
        {-2, "CL_DEVICE_NOT_AVAILABLE"},
        {-3, "CL_COMPILER_NOT_AVAILABLE"},
        {WE_CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
        {WE_CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES"},
        {WE_CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY"},
        {WE_CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE"},
        {WE_CL_EXEC_STATUS_ERROR, "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"},
        {-30, "CL_INVALID_VALUE"},
        {WE_CL_INVALID_COMMAND_QUEUE, "CL_INVALID_COMMAND_QUEUE"},
        {-38, "CL_INVALID_MEM_OBJECT"},
        {-43, "CL_INVALID_BUILD_OPTIONS"},
        {-48, "CL_INVALID_KERNEL"},
        {-51, "CL_INVALID_ARG_SIZE"},
        {-52, "CL_INVALID_KERNEL_ARGS"},
        {-54, "CL_INVALID_WORK_GROUP_SIZE"},
        {-55, "CL_INVALID_WORK_ITEM_SIZE"},
        {WE_CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE"},
        {WE_CL_NVIDIA_ILLEGAL_ACCESS, "an illegal access to memory"},
        {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
    };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (NAMES[i].code == code)
            return NAMES[i].name;
    }
    return "an OpenCL error";
}
