/* What callers may know of devices. */
#include "backend/opencl/programs.h"
#include "base/error.h"

size_t we_device_count(void) {
    we_opencl_device *devices;
    return we_opencl_devices(&devices);
}

we_status we_device_get(size_t index, we_device_info *out, we_error *err) {
    we_opencl_device *devices;
    if (!out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "out pointer is NULL");
    if (index >= we_opencl_devices(&devices))
        return we_error_set(err, WE_CONFIG, "there is no device %zu", index);
    const we_opencl_device *d = &devices[index];
    *out = (we_device_info){.name = d->name,
                            .platform = d->platform,
                            .driver = d->driver,
                            .kind = d->type & WE_CL_TYPE_GPU   ? "gpu"
                                    : d->type & WE_CL_TYPE_CPU ? "cpu"
                                                               : "accelerator",
                            .units = (int32_t)d->units,
                            .memory_bytes = (int64_t)d->memory_bytes,
                            .f64 = d->f64,
                            .f16 = d->f16,
                            .identity = we_opencl_identity(d)};
    return WE_OK;
}

void we_devices_keep_programs(const char *folder) {
    we_opencl_keep_programs(folder);
}
