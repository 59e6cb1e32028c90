/* The brute force beside merging: where does every element come from? An origin is an element of a tensor
 * that no raster wrote, or a fill. Both programs must give every tensor that still exists the same origins.
 */
#include <string.h>

#include "base/error.h"
#include "raster/program.h"

enum {
    FILLED = -1,
};

typedef struct origin {
    int32_t tensor; /* FILLED: `at` holds the bits of the fill */
    int64_t at;
} origin;

/* Origins of what rasters write; NULL for other tensors. */
typedef struct origins {
    origin **of;
    size_t count;
} origins;

static void free_origins(origins *o) {
    for (size_t t = 0; o->of && t < o->count; t++)
        we_memory_free(o->of[t]);
    we_memory_free(o->of);
}

static origin origin_of(const origins *o, const we_program *program, int32_t tensor, int64_t at) {
    int64_t offset;
    int32_t root = o->of[tensor] ? tensor : we_program_root(program, tensor, &offset);
    if (o->of[tensor])
        return o->of[tensor][at];
    return o->of[root] ? o->of[root][at + offset] : (origin){root, at + offset};
}

static void trace_region(const origins *o, const we_program *program, const we_region *region, origin *out) {
    int64_t x[WE_MAX_RANK] = {0}, count = we_region_count(region);
    for (int64_t n = 0; n < count; n++) {
        int64_t from = region->src.offset, to = region->dst.offset;
        for (int32_t i = 0; i < region->rank; i++) {
            from += x[i] * region->src.stride[i];
            to += x[i] * region->dst.stride[i];
        }
        out[to] = origin_of(o, program, region->source, from);
        for (int32_t i = region->rank - 1; i >= 0 && ++x[i] == region->size[i]; i--)
            x[i] = 0;
    }
}

static we_status trace(const we_program *program, const we_command *commands, size_t count, origins *o,
                       we_error *err) {
    o->count = program->tensor_count;
    o->of = we_memory_new(o->count * sizeof *o->of);
    if (!o->of)
        return we_error_no_memory(err);
    for (size_t c = 0; c < count; c++) {
        const we_command *command = &commands[c];
        if (command->removed || command->kind != WE_COMMAND_RASTER)
            continue;
        int64_t elements = program->tensors[command->out].count;
        origin *out = we_memory_new_dirty((size_t)elements * sizeof *out), nothing = {.tensor = FILLED};
        if (!out)
            return we_error_no_memory(err);
        memcpy(&nothing.at, &command->u.raster.fill, sizeof nothing.at);
        for (int64_t i = 0; i < elements; i++)
            out[i] = nothing;
        for (size_t i = 0; i < command->u.raster.count; i++)
            trace_region(o, program, &command->u.raster.regions[i], out);
        o->of[command->out] = out;
    }
    return WE_OK;
}

static we_status compare(const we_program *program, const we_command *command, const origins *before,
                         const origins *after, we_error *err) {
    int32_t tensor = command->out;
    for (int64_t i = 0; i < program->tensors[tensor].count; i++) {
        origin was = before->of[tensor][i], is = origin_of(after, program, tensor, i);
        if (was.tensor != is.tensor || was.at != is.at)
            return we_error_set(
                err, WE_INTERNAL,
                "merging rasters changed element %lld of tensor %d: it came from element %lld of "
                "tensor %d, now from element %lld of tensor %d",
                (long long)i, (int)tensor, (long long)was.at, (int)was.tensor, (long long)is.at,
                (int)is.tensor);
    }
    return WE_OK;
}

/* Is the memory still written? What was swept away need not be right. */
static bool lives(const we_program *program, const we_command *commands, size_t count, int32_t root) {
    if (program->tensors[root].kind != WE_TENSOR_TEMP)
        return true;
    for (size_t c = 0; c < count; c++) {
        for (size_t i = 0; !commands[c].removed && i < we_command_writes(&commands[c]); i++) {
            if (we_command_write(&commands[c], i) == root)
                return true;
        }
    }
    return false;
}

we_status we_program_verify(const we_program *program, const we_command *before, size_t before_count,
                            we_error *err) {
    origins was = {0}, is = {0};
    int64_t offset;
    we_status status = trace(program, before, before_count, &was, err);
    if (status == WE_OK)
        status = trace(program, program->commands, program->command_count, &is, err);
    for (size_t c = 0; c < before_count && status == WE_OK; c++) {
        const we_command *command = &before[c];
        if (!command->removed && command->kind == WE_COMMAND_RASTER &&
            lives(program, program->commands, program->command_count,
                  we_program_root(program, command->out, &offset)))
            status = compare(program, command, &was, &is, err);
    }
    free_origins(&was);
    free_origins(&is);
    return status;
}
