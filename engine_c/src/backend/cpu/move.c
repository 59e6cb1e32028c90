/* Rasters. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"

void we_cpu_element(we_dtype dtype, double value, char element[8]) {
    size_t width = we_dtype_size(dtype);
    if (isinf(value) && we_dtype_kind(dtype) != 'f') { /* the lowest or highest of an integer type */
        bool is_signed = we_dtype_kind(dtype) == 'i';
        memset(element, value <= 0 ? 0 : we_dtype_kind(dtype) == 'b' ? 1 : 0xFF, 8);
        if (is_signed)
            element[width - 1] = (char)(value > 0 ? 0x7F : 0x80);
    } else {
        we_cpu_cast_elements((we_cast){0}, WE_F64, &value, dtype, element, 1);
    }
}

/* What fills an output: `repeated` holds its element as often as it has room. */
typedef struct filling {
    char *to, repeated[512];
    size_t bytes;
} filling;

enum {
    FILLED_BLOCK = 1 << 16, /* bytes worth handing to a thread: some 2 us */
};

static void fill_blocks(void *context, int64_t begin, int64_t end) {
    const filling *f = context;
    size_t last = (size_t)end * FILLED_BLOCK < f->bytes ? (size_t)end * FILLED_BLOCK : f->bytes;
    for (size_t at = (size_t)begin * FILLED_BLOCK; at < last; at += sizeof f->repeated) {
        size_t left = last - at;
        memcpy(f->to + at, f->repeated, left < sizeof f->repeated ? left : sizeof f->repeated);
    }
}

static void fill(we_pool *pool, void *to, we_dtype dtype, int64_t count, double value) {
    char element[8];
    size_t width = we_dtype_size(dtype); /* divides the room */
    filling f = {.to = to, .bytes = (size_t)count * width};
    we_cpu_element(dtype, value, element);
    for (size_t i = 0; i < sizeof f.repeated; i += width)
        memcpy(f.repeated + i, element, width);
    we_parallel_for(pool, (int64_t)((f.bytes + FILLED_BLOCK - 1) / FILLED_BLOCK), 4, fill_blocks, &f);
}

/* ---- Turned matrices ---- */

enum {
    LEAST_SIDE = 8,   /* of a matrix that is turned by tiles */
    LINE = 16,        /* elements of a line of the cache */
    PIECE = 16384,    /* elements worth handing to a thread: some 3 us */
    MOST_PIECES = 64, /* of one region */
};

/* The dim that is contiguous in the source where the last one, contiguous in the output, is not; -1: none is.
 */
static int32_t turned_dim(const we_region *r, size_t width) {
    int32_t last = r->rank - 1;
    if (width != 4 || last < 1 || r->dst.stride[last] != 1 || r->src.stride[last] == 1 ||
        r->size[last] < LEAST_SIDE)
        return -1;
    for (int32_t i = 0; i < last; i++) {
        if (r->src.stride[i] == 1 && r->size[i] >= LEAST_SIDE)
            return i;
    }
    return -1;
}

/* The other dims are walked, the innermost first. */
static void copy_turned(const we_kernels *kernels, const we_region *r, int32_t turned, const uint32_t *in,
                        uint32_t *out) {
    int32_t last = r->rank - 1;
    int64_t x[WE_MAX_RANK] = {0};
    in += r->src.offset;
    out += r->dst.offset;
    for (;;) {
        kernels->transpose(r->size[turned], r->size[last], in, r->src.stride[last], out,
                           r->dst.stride[turned]);
        int32_t i = last - 1;
        for (; i >= 0; i--) {
            if (i == turned)
                continue;
            in += r->src.stride[i];
            out += r->dst.stride[i];
            if (++x[i] < r->size[i])
                break;
            in -= r->src.stride[i] * r->size[i];
            out -= r->dst.stride[i] * r->size[i];
            x[i] = 0;
        }
        if (i < 0)
            return;
    }
}

/* ---- The command ---- */

typedef struct raster_job {
    const we_run *run;
    const we_command *command;
    size_t width;
    int64_t pieces; /* of every region */
} raster_job;

/* Piece `index` of a region; false where it is empty. A matrix that is turned is cut along its longer side,
 * between lines of the cache. */
static bool piece_of(we_region *r, size_t width, int64_t index, int64_t pieces) {
    we_region_coalesce(r);
    if (r->rank == 0)
        return index == 0;
    bool turned = turned_dim(r, width) == 0;
    int32_t dim = turned && r->size[r->rank - 1] > r->size[0] ? r->rank - 1 : 0;
    int64_t step = turned ? LINE : 1, steps = (r->size[dim] + step - 1) / step;
    int64_t begin = steps * index / pieces * step, end = steps * (index + 1) / pieces * step;
    end = end < r->size[dim] ? end : r->size[dim];
    r->src.offset += begin * r->src.stride[dim];
    r->dst.offset += begin * r->dst.stride[dim];
    r->size[dim] = end - begin;
    return end > begin;
}

static void copy_pieces(void *context, int64_t begin, int64_t end) {
    const raster_job *job = context;
    for (int64_t i = begin; i < end; i++) {
        we_region r = job->command->u.raster.regions[i / job->pieces];
        const void *in = job->run->memory[r.source];
        void *out = we_run_out(job->run, job->command);
        if (!piece_of(&r, job->width, i % job->pieces, job->pieces))
            continue;
        int32_t turned = turned_dim(&r, job->width);
        if (turned >= 0)
            copy_turned(job->run->kernels, &r, turned, in, out);
        else
            we_region_copy(&r, job->width, in, out);
    }
}

void we_cpu_raster(const we_run *run, const we_command *command) {
    const we_tensor *out = &run->program->tensors[command->out];
    raster_job job = {run, command, we_dtype_size(out->dtype), 1};
    int64_t count = (int64_t)command->u.raster.count, moved = 0;
    for (int64_t i = 0; i < count; i++)
        moved += we_region_count(&command->u.raster.regions[i]);
    if (moved < out->count && !command->u.raster.partial)
        fill(run->pool, we_run_out(run, command), out->dtype, out->count, command->u.raster.fill);
    if (run->pool && count > 0) {
        int64_t wanted = moved / PIECE / count;
        job.pieces = wanted < 1 ? 1 : wanted > MOST_PIECES ? MOST_PIECES : wanted;
    }
    /* Regions are disjoint, so they may be copied by several threads; small ones are not worth it. */
    we_parallel_for(moved > 2 * PIECE ? run->pool : NULL, count * job.pieces, 1, copy_pieces, &job);
}
