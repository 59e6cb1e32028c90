#include "backend/opencl/record.h"

#include <string.h>

#include "base/dtype.h"
#include "base/error.h"

enum {
    APART = 256, /* bytes between starts of constants: what the widest load wants */
};

const char *we_opencl_type(we_dtype dtype) {
    static const char *const TYPES[WE_DTYPE_COUNT] = {
        [WE_F32] = "float",  [WE_F64] = "double", [WE_F16] = "half", [WE_BF16] = "ushort",
        [WE_I8] = "char",    [WE_I16] = "short",  [WE_I32] = "int",  [WE_I64] = "long",
        [WE_U8] = "uchar",   [WE_U16] = "ushort", [WE_U32] = "uint", [WE_U64] = "ulong",
        [WE_BOOL] = "uchar",
    };
    return TYPES[dtype];
}

void we_record_fail(we_recorder *r, we_status status) {
    if (r->status == WE_OK)
        r->status = status;
}

static bool grow(we_recorder *r, void **items, size_t *room, size_t count, size_t size) {
    if (r->status == WE_OK && !we_memory_grow(items, room, count, size))
        r->status = we_error_no_memory(r->err);
    return r->status == WE_OK;
}

/* ---- Places ---- */

static we_spot record_upload(we_recorder *r, const void *bytes, size_t size, we_dtype form) {
    we_tape *t = r->tape;
    for (size_t i = 0; i < t->upload_count; i++) {
        const we_tape_upload *u = &t->uploads[i];
        if (u->bytes == bytes && u->size >= size && u->form == form)
            return (we_spot){WE_SPACE_CONSTANT, u->at};
    }
    if (!grow(r, (void **)&t->uploads, &t->upload_room, t->upload_count, sizeof *t->uploads))
        return (we_spot){0};
    int64_t at = t->constant_bytes, taken = (int64_t)(we_dtype_size(form) == 2 ? size / 2 : size);
    t->uploads[t->upload_count++] = (we_tape_upload){bytes, size, at, form};
    t->constant_bytes += (taken + APART - 1) / APART * APART;
    return (we_spot){WE_SPACE_CONSTANT, at};
}

we_spot we_record_constant(we_recorder *r, const void *bytes, size_t size) {
    return record_upload(r, bytes, size, WE_F32);
}

static bool are_halves(const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (we_f16_to_f32(we_f32_to_f16(values[i])) != values[i])
            return false; /* NaN too */
    }
    return true;
}

we_spot we_record_weights(we_recorder *r, const float *weights, int64_t count, we_dtype *form) {
    *form = are_halves(weights, count) ? WE_F16 : r->narrow ? WE_BF16 : WE_F32;
    return record_upload(r, weights, (size_t)count * sizeof *weights, *form);
}

we_spot we_record_spot_of(we_recorder *r, int32_t tensor) {
    we_spot *place = &r->spots[tensor];
    const we_tensor *t = &r->program->tensors[tensor];
    if (place->space == WE_SPACE_NONE && t->kind == WE_TENSOR_CONST)
        *place = we_record_constant(r, t->data, (size_t)t->count * we_dtype_size(t->dtype));
    if (place->space == WE_SPACE_NONE && r->status == WE_OK)
        r->status = we_error_set(r->err, WE_INTERNAL, "tensor %d has no place on the device", (int)tensor);
    return *place;
}

/* ---- Launches ---- */

void we_record_kernel(we_recorder *r, const char *source, const char *options, const char *name) {
    we_tape *t = r->tape;
    if (!grow(r, (void **)&t->launches, &t->launch_room, t->launch_count, sizeof *t->launches))
        return;
    we_tape_launch *launch = &t->launches[t->launch_count];
    *launch = (we_tape_launch){.command = r->command, .first = (uint32_t)t->argument_count};
    r->status = we_opencl_kernel_get(r->device, source, options, name, &launch->kernel, r->err);
}

static void argument(we_recorder *r, we_space space, const void *value, size_t size) {
    we_tape *t = r->tape;
    if (!grow(r, (void **)&t->arguments, &t->argument_room, t->argument_count, sizeof *t->arguments))
        return;
    while (t->value_room < t->value_bytes + size) {
        if (!grow(r, (void **)&t->values, &t->value_room, t->value_room, 1))
            return;
    }
    t->arguments[t->argument_count++] = (we_tape_argument){space, (uint32_t)size, (uint32_t)t->value_bytes};
    if (size)
        memcpy(t->values + t->value_bytes, value, size);
    t->value_bytes += size;
    t->launches[t->launch_count].count++;
}

void we_record_bytes(we_recorder *r, const void *value, size_t size) {
    argument(r, WE_SPACE_NONE, value, size);
}

void we_record_long(we_recorder *r, int64_t value) {
    argument(r, WE_SPACE_NONE, &value, sizeof value);
}

void we_record_int(we_recorder *r, int64_t value) {
    int32_t narrow = (int32_t)value;
    if (narrow != value && r->status == WE_OK)
        r->status =
            we_error_set(r->err, WE_INTERNAL, "%lld does not fit an int of the device", (long long)value);
    argument(r, WE_SPACE_NONE, &narrow, sizeof narrow);
}

void we_record_float(we_recorder *r, float value) {
    argument(r, WE_SPACE_NONE, &value, sizeof value);
}

void we_record_buffer(we_recorder *r, we_space space) {
    argument(r, space, NULL, 0);
}

void we_record_spot(we_recorder *r, we_spot place) {
    we_record_buffer(r, place.space);
    we_record_long(r, place.at);
}

void we_record_tensor(we_recorder *r, int32_t tensor) {
    we_record_spot(r, we_record_spot_of(r, tensor));
}

void we_record_scratch(we_recorder *r, int64_t at, int64_t end) {
    we_tape *t = r->tape;
    t->scratch_bytes = end > t->scratch_bytes ? end : t->scratch_bytes;
    we_record_spot(r, (we_spot){WE_SPACE_WORK, r->scratch_at + at});
}

void we_record_check(we_recorder *r) {
    r->tape->checks = true;
    we_record_buffer(r, WE_SPACE_WORK);
}

void we_record_groups(we_recorder *r, const int64_t groups[WE_TAPE_DIMS], size_t local) {
    we_tape *t = r->tape;
    if (r->status != WE_OK)
        return;
    we_tape_launch *launch = &t->launches[t->launch_count++];
    launch->dims = WE_TAPE_DIMS;
    for (int32_t i = 0; i < WE_TAPE_DIMS; i++) {
        launch->local[i] = i == 0 ? local : 1;
        launch->global[i] = (size_t)groups[i] * launch->local[i];
    }
}

void we_record_items(we_recorder *r, int64_t count, size_t local) {
    int64_t groups[WE_TAPE_DIMS] = {(count + (int64_t)local - 1) / (int64_t)local, 1, 1};
    we_record_groups(r, groups, local);
}

void we_tape_free(we_tape *tape) {
    we_memory_free(tape->launches);
    we_memory_free(tape->arguments);
    we_memory_free(tape->values);
    we_memory_free(tape->uploads);
    *tape = (we_tape){0};
}
