/* Rasters. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"

static void fill(void *to, we_dtype dtype, int64_t count, double value) {
    char element[8];
    size_t width = we_dtype_size(dtype);
    if (value == 0) {
        memset(to, 0, (size_t)count * width);
        return;
    }
    if (isinf(value) && we_dtype_kind(dtype) != 'f') { /* the lowest or highest of an integer type */
        bool is_signed = we_dtype_kind(dtype) == 'i';
        memset(element, value <= 0 ? 0 : we_dtype_kind(dtype) == 'b' ? 1 : 0xFF, sizeof element);
        if (is_signed)
            element[width - 1] = (char)(value > 0 ? 0x7F : 0x80);
    } else {
        we_cpu_cast_elements((we_cast){0}, WE_F64, &value, dtype, element, 1);
    }
    for (int64_t i = 0; i < count; i++)
        memcpy((char *)to + i * (int64_t)width, element, width);
}

typedef struct raster_job {
    const we_run *run;
    const we_command *command;
    size_t width;
} raster_job;

static void copy_regions(void *context, int64_t begin, int64_t end) {
    const raster_job *job = context;
    for (int64_t i = begin; i < end; i++) {
        const we_region *region = &job->command->u.raster.regions[i];
        we_region_copy(region, job->width, job->run->memory[region->source],
                       we_run_out(job->run, job->command));
    }
}

void we_cpu_raster(const we_run *run, const we_command *command) {
    const we_tensor *out = &run->program->tensors[command->out];
    raster_job job = {run, command, we_dtype_size(out->dtype)};
    int64_t count = (int64_t)command->u.raster.count, moved = 0;
    for (int64_t i = 0; i < count; i++)
        moved += we_region_count(&command->u.raster.regions[i]);
    if (moved < out->count && !command->u.raster.partial)
        fill(we_run_out(run, command), out->dtype, out->count, command->u.raster.fill);
    /* Regions are disjoint, so they may be copied by several threads; small ones are not worth it. */
    we_parallel_for(moved > 100000 ? run->pool : NULL, count, 1, copy_regions, &job);
}
