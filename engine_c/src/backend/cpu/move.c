/* Rasters and casts. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"

/* ---- Casts: through double or int64, in runs ---- */

enum {
    RUN = 256,
};

static void load_wide(we_dtype dtype, const void *from, int64_t n, double *real, int64_t *whole) {
    switch (dtype) {
#define LOAD(DTYPE, TYPE, to)                                                                                \
    case DTYPE:                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                                      \
            (to)[i] = ((const TYPE *)from)[i];                                                               \
        break;
        LOAD(WE_F32, float, real)
        LOAD(WE_F64, double, real)
        LOAD(WE_I8, int8_t, whole)
        LOAD(WE_I16, int16_t, whole)
        LOAD(WE_I32, int32_t, whole)
        LOAD(WE_I64, int64_t, whole)
        LOAD(WE_U8, uint8_t, whole)
        LOAD(WE_BOOL, uint8_t, whole)
        LOAD(WE_U16, uint16_t, whole)
        LOAD(WE_U32, uint32_t, whole)
        LOAD(WE_U64, int64_t, whole) /* values from 2^63 on keep their bits and wrap */
#undef LOAD
    case WE_F16:
        for (int64_t i = 0; i < n; i++)
            real[i] = we_f16_to_f32(((const uint16_t *)from)[i]);
        break;
    case WE_BF16:
        for (int64_t i = 0; i < n; i++)
            real[i] = we_bf16_to_f32(((const uint16_t *)from)[i]);
        break;
    case WE_DTYPE_COUNT:
        break;
    }
}

/* Truncate towards zero; what no int64 holds (and NaN) saturates to a defined value. */
static int64_t to_whole(double value) {
    if (value != value)
        return 0;
    if (value >= 9223372036854775808.0)
        return INT64_MAX;
    return value <= -9223372036854775808.0 ? INT64_MIN : (int64_t)value;
}

static void store_wide(we_dtype dtype, void *to, int64_t n, bool real_source, const double *real,
                       const int64_t *whole) {
    for (int64_t i = 0; i < n; i++) {
        double r = real_source ? real[i] : (double)whole[i];
        int64_t w = real_source ? to_whole(real[i]) : whole[i];
        switch (dtype) {
#define STORE(DTYPE, TYPE, value)                                                                            \
    case DTYPE:                                                                                              \
        ((TYPE *)to)[i] = (TYPE)(value);                                                                     \
        break;
            STORE(WE_F32, float, r)
            STORE(WE_F64, double, r)
            STORE(WE_F16, uint16_t, we_f32_to_f16((float)r))
            STORE(WE_BF16, uint16_t, we_f32_to_bf16((float)r))
            STORE(WE_I8, int8_t, w)
            STORE(WE_I16, int16_t, w)
            STORE(WE_I32, int32_t, w)
            STORE(WE_I64, int64_t, w)
            STORE(WE_U8, uint8_t, w)
            STORE(WE_U16, uint16_t, w)
            STORE(WE_U32, uint32_t, w)
            STORE(WE_U64, uint64_t, w)
            STORE(WE_BOOL, uint8_t, real_source ? r != 0 : w != 0)
#undef STORE
        case WE_DTYPE_COUNT:
            break;
        }
    }
}

static void cast(we_dtype from_type, const char *from, we_dtype to_type, char *to, int64_t n) {
    double real[RUN] = {0}; /* the half not loaded is never used, but compilers cannot tell */
    int64_t whole[RUN] = {0};
    int64_t from_size = (int64_t)we_dtype_size(from_type), to_size = (int64_t)we_dtype_size(to_type);
    if (from_type == to_type) {
        memmove(to, from, (size_t)(n * to_size));
        return;
    }
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t run = n - i < RUN ? n - i : RUN;
        load_wide(from_type, from + i * from_size, run, real, whole);
        store_wide(to_type, to + i * to_size, run, we_dtype_kind(from_type) == 'f', real, whole);
    }
}

typedef struct cast_job {
    we_dtype from_type, to_type;
    const char *from;
    char *to;
} cast_job;

static void cast_range(void *context, int64_t begin, int64_t end) {
    const cast_job *job = context;
    cast(job->from_type, job->from + begin * (int64_t)we_dtype_size(job->from_type), job->to_type,
         job->to + begin * (int64_t)we_dtype_size(job->to_type), end - begin);
}

void we_cpu_cast(const we_run *run, const we_command *command) {
    const we_tensor *in = &run->program->tensors[command->in[0]], *out = &run->program->tensors[command->out];
    cast_job job = {in->dtype, out->dtype, we_run_in(run, command, 0), we_run_out(run, command)};
    we_parallel_for(run->pool, out->count, 32768, cast_range, &job);
}

/* ---- Rasters ---- */

static void fill(void *to, we_dtype dtype, int64_t count, double value) {
    char element[8];
    size_t width = we_dtype_size(dtype);
    if (value == 0) {
        memset(to, 0, (size_t)count * width);
        return;
    }
    if (isinf(value) && we_dtype_kind(dtype) != 'f') { /* the lowest or highest of an integer type */
        bool is_signed = we_dtype_kind(dtype) == 'i';
        memset(element, value > 0 ? 0xFF : 0, sizeof element);
        element[width - 1] = (char)(value > 0 ? (is_signed ? 0x7F : 0xFF) : (is_signed ? 0x80 : 0));
    } else {
        cast(WE_F64, (const char *)&value, dtype, element, 1);
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
    if (moved < out->count)
        fill(we_run_out(run, command), out->dtype, out->count, command->u.raster.fill);
    /* Regions are disjoint, so they may be copied by several threads; small ones are not worth it. */
    we_parallel_for(moved > 100000 ? run->pool : NULL, count, 1, copy_regions, &job);
}
