/* Conversions between element types: every type loads into double or into 64-bit integers, and stores from
 * them, in short runs, so that n types need 2n conversions. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"
#include "base/minifloat.h"

enum {
    RUN = 256, /* elements: both buffers stay in the first-level cache */
};

/* A run of values in the widest type of their kind; `kind` says which array holds them. */
typedef struct wide_run {
    char kind;
    double real[RUN];   /* 'f' */
    int64_t whole[RUN]; /* 'i', 'u' (the bits of a uint64) and 'b' */
} wide_run;

/* The low bits of a byte as a signed number. */
static int64_t signed_bits(uint8_t byte, int bits) {
    int sign = 1 << (bits - 1);
    return ((byte & (2 * sign - 1)) ^ sign) - sign;
}

static void load(we_dtype dtype, const void *from, int64_t n, wide_run *run) {
    switch (dtype) {
#define LOAD(DTYPE, TYPE, to, value)                                                                         \
    case DTYPE:                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            TYPE x = ((const TYPE *)from)[i];                                                                \
            run->to[i] = value;                                                                              \
        }                                                                                                    \
        break;
        LOAD(WE_F32, float, real, x)
        LOAD(WE_F64, double, real, x)
        LOAD(WE_F16, uint16_t, real, we_f16_to_f32(x))
        LOAD(WE_BF16, uint16_t, real, we_bf16_to_f32(x))
        LOAD(WE_I8, int8_t, whole, x)
        LOAD(WE_I16, int16_t, whole, x)
        LOAD(WE_I32, int32_t, whole, x)
        LOAD(WE_I64, int64_t, whole, x)
        LOAD(WE_U8, uint8_t, whole, x)
        LOAD(WE_BOOL, uint8_t, whole, x)
        LOAD(WE_U16, uint16_t, whole, x)
        LOAD(WE_U32, uint32_t, whole, x)
        LOAD(WE_U64, uint64_t, whole, (int64_t)x)
        LOAD(WE_I4, uint8_t, whole, signed_bits(x, 4))
        LOAD(WE_U4, uint8_t, whole, x & 15)
        LOAD(WE_I2, uint8_t, whole, signed_bits(x, 2))
        LOAD(WE_U2, uint8_t, whole, x & 3)
    default: /* a minifloat */
        LOAD(WE_DTYPE_COUNT, uint8_t, real, we_minifloat_decode(dtype, x))
#undef LOAD
    }
}

/* Truncate towards zero; what no 64-bit integer holds (and NaN) saturates to a defined value. */
static int64_t to_whole(double value) {
    if (value != value)
        return 0;
    if (value >= 9223372036854775808.0)
        return INT64_MAX;
    return value <= -9223372036854775808.0 ? INT64_MIN : (int64_t)value;
}

static uint64_t to_unsigned(double value) {
    if (value >= 18446744073709551616.0)
        return UINT64_MAX;
    return value >= 9223372036854775808.0 ? (uint64_t)value : (uint64_t)to_whole(value);
}

/* float of a double, rounded to odd: a second rounding to fewer bits then gives what one rounding would. */
static float to_odd_float(double value) {
    float nearest = (float)value;
    uint32_t bits;
    memcpy(&bits, &nearest, sizeof bits);
    if (nearest == value || nearest != nearest || isinf(nearest) || (bits & 1))
        return nearest;
    return nextafterf(nearest, value > nearest ? INFINITY : -INFINITY);
}

static uint8_t to_e8m0(double value, we_cast how) {
    int direction = how.rounding == WE_ROUND_UP ? 1 : how.rounding == WE_ROUND_DOWN ? -1 : 0;
    return we_e8m0_encode((float)value, direction, how.overflow);
}

/* Fill the array of the other kind, so that a store finds what it wants. */
static void complete(wide_run *run, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (run->kind == 'f')
            run->whole[i] = to_whole(run->real[i]);
        else
            run->real[i] = run->kind == 'u' ? (double)(uint64_t)run->whole[i] : (double)run->whole[i];
    }
}

static void store(we_cast how, we_dtype dtype, void *to, int64_t n, const wide_run *run) {
    bool real = run->kind == 'f';
    switch (dtype) {
#define STORE(DTYPE, TYPE, value)                                                                            \
    case DTYPE:                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            double r = run->real[i];                                                                         \
            int64_t w = run->whole[i];                                                                       \
            (void)r, (void)w;                                                                                \
            ((TYPE *)to)[i] = (TYPE)(value);                                                                 \
        }                                                                                                    \
        break;
        STORE(WE_F32, float, r)
        STORE(WE_F64, double, r)
        STORE(WE_F16, uint16_t, we_f32_to_f16(to_odd_float(r)))
        STORE(WE_BF16, uint16_t, we_f32_to_bf16(to_odd_float(r)))
        STORE(WE_I8, int8_t, w)
        STORE(WE_I16, int16_t, w)
        STORE(WE_I32, int32_t, w)
        STORE(WE_I64, int64_t, w)
        STORE(WE_U8, uint8_t, w)
        STORE(WE_U16, uint16_t, w)
        STORE(WE_U32, uint32_t, w)
        STORE(WE_U64, uint64_t, real ? to_unsigned(r) : (uint64_t)w)
        STORE(WE_BOOL, uint8_t, real ? r != 0 : w != 0)
        STORE(WE_I4, uint8_t, w & 15)
        STORE(WE_U4, uint8_t, w & 15)
        STORE(WE_I2, uint8_t, w & 3)
        STORE(WE_U2, uint8_t, w & 3)
        STORE(WE_F8_E8M0, uint8_t, to_e8m0(r, how))
    default: /* another minifloat */
        STORE(WE_DTYPE_COUNT, uint8_t, we_minifloat_encode(dtype, to_odd_float(r), how.overflow))
#undef STORE
    }
}

void we_cpu_cast_elements(we_cast how, we_dtype from_type, const void *from, we_dtype to_type, void *to,
                          int64_t n) {
    wide_run run = {.kind = we_dtype_kind(from_type)};
    int64_t from_size = (int64_t)we_dtype_size(from_type), to_size = (int64_t)we_dtype_size(to_type);
    if (from_type == to_type) {
        memmove(to, from, (size_t)(n * to_size));
        return;
    }
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t count = n - i < RUN ? n - i : RUN;
        load(from_type, (const char *)from + i * from_size, count, &run);
        if ((run.kind == 'f') != (we_dtype_kind(to_type) == 'f'))
            complete(&run, count);
        store(how, to_type, (char *)to + i * to_size, count, &run);
    }
}

typedef struct cast_job {
    we_cast how;
    we_unary_kernel kernel; /* NULL: by way of the widest type */
    we_dtype from_type, to_type;
    const char *from;
    char *to;
} cast_job;

static void cast_range(void *context, int64_t begin, int64_t end) {
    const cast_job *job = context;
    const char *from = job->from + begin * (int64_t)we_dtype_size(job->from_type);
    char *to = job->to + begin * (int64_t)we_dtype_size(job->to_type);
    if (job->kernel)
        job->kernel(end - begin, from, to);
    else
        we_cpu_cast_elements(job->how, job->from_type, from, job->to_type, to, end - begin);
}

void we_cpu_cast(const we_run *run, const we_command *command) {
    const we_tensor *in = &run->program->tensors[command->in[0]], *out = &run->program->tensors[command->out];
    cast_job job = {command->u.cast,
                    run->kernels->cast[in->dtype][out->dtype],
                    in->dtype,
                    out->dtype,
                    we_run_in(run, command, 0),
                    we_run_out(run, command)};
    we_parallel_for(run->pool, out->count, 32768, cast_range, &job);
}
