#include "backend/opencl/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/opencl/programs.h"
#include "base/error.h"
#include "base/memory.h"

enum {
    MOST_DEVICES = 16,
    MOST_PLATFORMS = 8,
};

static we_opencl_device devices[MOST_DEVICES];
static size_t device_count;

static void read_text(const we_cl *cl, void *id, uint32_t what, char *out, size_t room) {
    if (cl->GetDeviceInfo(id, what, room - 1, out, NULL) != 0)
        out[0] = 0;
    out[room - 1] = 0;
}

static bool has_extension(const we_cl *cl, void *id, const char *name) {
    char list[8192] = {0};
    size_t length = strlen(name);
    read_text(cl, id, WE_CL_DEVICE_EXTENSIONS, list, sizeof list);
    for (const char *at = list; (at = strstr(at, name)); at += length) {
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0))
            return true;
    }
    return false;
}

static uint32_t vector_width(const we_cl *cl, void *id) {
    uint32_t width = 0;
    cl->GetDeviceInfo(id, WE_CL_DEVICE_PREFERRED_VECTOR_WIDTH_FLOAT, sizeof width, &width, NULL);
    return width >= 16 ? 16 : width >= 8 ? 8 : 4;
}

/* Before anything is measured: a middling GPU of those units, or a processor's cores with such vectors. */
static we_opencl_parameters standard(uint64_t type, uint32_t units, uint32_t width) {
    if (type & WE_CL_TYPE_CPU)
        return (we_opencl_parameters){2.0 * width * units, 10, 20e3, 5, 5, 2e3};
    return (we_opencl_parameters){128.0 * units, 8.0 * units, 5e3, 10, 10, 10e3};
}

static void describe(const we_cl *cl, void *platform, void *id, we_opencl_device *d) {
    uint64_t config = 0;
    uint32_t unified = 0;
    *d = (we_opencl_device){.cl = cl, .id = id};
    cl->GetPlatformInfo(platform, WE_CL_PLATFORM_NAME, sizeof d->platform - 1, d->platform, NULL);
    read_text(cl, id, WE_CL_DEVICE_NAME, d->name, sizeof d->name);
    read_text(cl, id, WE_CL_DRIVER_VERSION, d->driver, sizeof d->driver);
    cl->GetDeviceInfo(id, WE_CL_DEVICE_TYPE, sizeof d->type, &d->type, NULL);
    cl->GetDeviceInfo(id, WE_CL_DEVICE_MAX_COMPUTE_UNITS, sizeof d->units, &d->units, NULL);
    cl->GetDeviceInfo(id, WE_CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof d->group, &d->group, NULL);
    cl->GetDeviceInfo(id, WE_CL_DEVICE_GLOBAL_MEM_SIZE, sizeof d->memory_bytes, &d->memory_bytes, NULL);
    cl->GetDeviceInfo(id, WE_CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof d->most_bytes, &d->most_bytes, NULL);
    uint64_t local = 0;
    cl->GetDeviceInfo(id, WE_CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
    d->local_bytes = (size_t)local;
    d->width = vector_width(cl, id);
    cl->GetDeviceInfo(id, WE_CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    d->exact_division = config & WE_CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    cl->GetDeviceInfo(id, WE_CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof unified, &unified, NULL);
    d->unified = unified != 0;
    d->f64 = has_extension(cl, id, "cl_khr_fp64");
    d->f16 = has_extension(cl, id, "cl_khr_fp16");
    d->parameters = standard(d->type, d->units, d->width);
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->tuning_lock, NULL);
}

static void list_devices(void) {
    static const uint64_t KINDS[] = {WE_CL_TYPE_GPU, WE_CL_TYPE_ACCELERATOR, WE_CL_TYPE_CPU};
    void *platforms[MOST_PLATFORMS], *ids[MOST_DEVICES];
    uint32_t platform_count = 0, count;
    const we_cl *cl = we_cl_library();
    if (!cl || cl->GetPlatformIDs(MOST_PLATFORMS, platforms, &platform_count) != 0)
        return;
    platform_count = platform_count < MOST_PLATFORMS ? platform_count : MOST_PLATFORMS;
    for (size_t kind = 0; kind < sizeof KINDS / sizeof *KINDS; kind++) {
        for (uint32_t p = 0; p < platform_count; p++) {
            if (cl->GetDeviceIDs(platforms[p], KINDS[kind], MOST_DEVICES, ids, &count) != 0)
                continue;
            for (uint32_t i = 0; i < count && i < MOST_DEVICES && device_count < MOST_DEVICES; i++)
                describe(cl, platforms[p], ids[i], &devices[device_count++]);
        }
    }
}

size_t we_opencl_devices(we_opencl_device **out) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_devices);
    *out = devices;
    return device_count;
}

/* What drivers say when a kernel faulted. */
static bool is_fault(int32_t code) {
    return code == WE_CL_OUT_OF_RESOURCES || code == WE_CL_EXEC_STATUS_ERROR ||
           code == WE_CL_INVALID_COMMAND_QUEUE || code == WE_CL_NVIDIA_ILLEGAL_ACCESS;
}

we_status we_opencl_failed(we_error *err, we_opencl_device *device, const char *call, int32_t code) {
    bool memory = code == WE_CL_MEM_OBJECT_ALLOCATION_FAILURE || code == WE_CL_OUT_OF_HOST_MEMORY ||
                  code == WE_CL_INVALID_BUFFER_SIZE;
    if (is_fault(code))
        atomic_store(&device->lost, true);
    return we_error_set(err, memory ? WE_OUT_OF_MEMORY : WE_DEVICE, "%.90s: cl%s gives %s (%d)%s",
                        device->name, call, we_cl_error_name(code), (int)code,
                        memory ? ": the device has too little memory for this model" : "");
}

we_status we_opencl_open(size_t number, we_opencl_device **out, we_error *err) {
    we_opencl_device *list;
    size_t count = we_opencl_devices(&list);
    if (count == 0)
        return we_error_set(
            err, WE_CONFIG,
            "backend 'opencl' needs an OpenCL device, and there is none: install a driver (for a "
            "processor, PoCL), or use 'cpu'");
    if (number >= count)
        return we_error_set(err, WE_CONFIG, "there is no OpenCL device %zu, the last is %zu", number,
                            count - 1);
    we_opencl_device *d = &list[number];
    int32_t code = 0;
    pthread_mutex_lock(&d->lock);
    if (atomic_exchange(&d->lost, false)) {
        d->context = NULL;
        d->kernels = NULL;
    }
    if (!d->context)
        d->context = d->cl->CreateContext(NULL, 1, &d->id, NULL, NULL, &code);
    pthread_mutex_unlock(&d->lock);
    if (!d->context)
        return we_opencl_failed(err, d, "CreateContext", code);
    *out = d;
    return WE_OK;
}

/* ---- Kernels ---- */

static char *key_of(const char *source, const char *options, const char *name) {
    size_t length = strlen(source) + strlen(options) + strlen(name) + 3;
    char *key = we_memory_new_dirty(length);
    if (key)
        snprintf(key, length, "%s\n%s\n%s", name, options, source);
    return key;
}

static we_status build(we_opencl_device *d, const char *source, const char *options, const char *name,
                       we_opencl_kernel *kernel, we_error *err) {
    void *program;
    int32_t code;
    WE_TRY(we_opencl_program(d, source, options, &program, err));
    kernel->kernel = d->cl->CreateKernel(program, name, &code);
    d->cl->ReleaseProgram(program); /* the kernel holds it */
    return kernel->kernel ? WE_OK : we_opencl_failed(err, d, "CreateKernel", code);
}

static we_status get(we_opencl_device *d, const char *source, const char *options, const char *name,
                     const we_opencl_kernel **out, we_error *err) {
    char *key = key_of(source, options, name);
    we_opencl_kernel *kernel = d->kernels;
    while (key && kernel && strcmp(kernel->key, key) != 0)
        kernel = kernel->next;
    *out = kernel;
    if (kernel || !key) {
        we_memory_free(key);
        return kernel ? WE_OK : we_error_no_memory(err);
    }
    kernel = we_memory_new(sizeof *kernel);
    we_status status = kernel ? build(d, source, options, name, kernel, err) : we_error_no_memory(err);
    if (status != WE_OK) {
        we_memory_free(key);
        we_memory_free(kernel);
        return status;
    }
    kernel->key = key;
    kernel->next = d->kernels;
    d->kernels = kernel;
    *out = kernel;
    return WE_OK;
}

we_status we_opencl_kernel_get(we_opencl_device *device, const char *source, const char *options,
                               const char *name, const we_opencl_kernel **out, we_error *err) {
    pthread_mutex_lock(&device->lock);
    we_status status = get(device, source, options, name, out, err);
    pthread_mutex_unlock(&device->lock);
    return status;
}
