/* One launch per raster. A single region, the common case, travels as an argument; several stand in a table
 * of [end of its elements, its source is constant, bytes before its source, first element written, rank,
 *    size[8], source step[8], destination step[8]]
 * in the buffer of constants. */
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/opencl/opencl.h"
#include "base/dtype.h"
#include "base/error.h"

enum {
    ROW = 5 + 3 * WE_MAX_RANK,
};
_Static_assert(ROW == 29, "raster.cl knows it");

static const char *bits_of(size_t width) {
    return width == 8 ? "ulong" : width == 4 ? "uint" : width == 2 ? "ushort" : "uchar";
}

/* Does an address, or a count of elements, pass 32 bits? */
static bool is_wide(const we_region *r) {
    int64_t from = 0, to = r->dst.offset;
    for (int32_t i = 0; i < r->rank; i++) {
        from += (r->size[i] - 1) * (r->src.stride[i] < 0 ? -r->src.stride[i] : r->src.stride[i]);
        to += (r->size[i] - 1) * (r->dst.stride[i] < 0 ? -r->dst.stride[i] : r->dst.stride[i]);
    }
    return from > INT32_MAX / 2 || to > INT32_MAX / 2 || we_region_count(r) > INT32_MAX / 2;
}

static void kernel(we_recorder *r, const char *name, int32_t rank, bool wide, size_t width) {
    char options[WE_OPENCL_OPTIONS];
    snprintf(options, sizeof options, "-w -DTYPE=%s -DRANK=%d -DIX=%s", bits_of(width), (int)rank,
             wide ? "long" : "int");
    we_record_kernel(r, we_cl_raster, options, name);
}

static void record_one(we_recorder *r, const we_region *given, int32_t out, int64_t width) {
    we_region region = *given;
    int64_t wide[1 + 3 * WE_MAX_RANK];
    int32_t narrow[1 + 3 * WE_MAX_RANK];
    we_region_coalesce(&region);
    if (region.rank == 0)
        region.rank = 1, region.size[0] = 1, region.src.stride[0] = region.dst.stride[0] = 0;
    int32_t rank = region.rank;
    wide[0] = we_region_count(&region);
    for (int32_t i = 0; i < rank; i++) {
        wide[1 + i] = region.size[i];
        wide[1 + rank + i] = region.src.stride[i];
        wide[1 + 2 * rank + i] = region.dst.stride[i];
    }
    for (int32_t i = 0; i < 1 + 3 * rank; i++)
        narrow[i] = (int32_t)wide[i];
    bool is_long = is_wide(&region);
    kernel(r, "raster", rank, is_long, (size_t)width);
    we_record_bytes(r, is_long ? (void *)wide : (void *)narrow,
                    (size_t)(1 + 3 * rank) * (is_long ? sizeof *wide : sizeof *narrow));
    we_spot from = we_record_spot_of(r, region.source), to = we_record_spot_of(r, out);
    from.at += region.src.offset * width;
    to.at += region.dst.offset * width;
    we_record_spot(r, from);
    we_record_spot(r, to);
    we_record_items(r, wide[0], we_opencl_group(r));
}

static void put_row(we_recorder *r, const we_region *given, int64_t width, int64_t *end, int64_t *row) {
    we_region region = *given;
    we_region_coalesce(&region);
    we_spot from = we_record_spot_of(r, region.source);
    row[0] = *end += we_region_count(&region);
    row[1] = from.space == WE_SPACE_CONSTANT;
    row[2] = from.at + region.src.offset * width;
    row[3] = region.dst.offset;
    row[4] = region.rank;
    for (int32_t i = 0; i < region.rank; i++) {
        row[5 + i] = region.size[i];
        row[5 + WE_MAX_RANK + i] = region.src.stride[i];
        row[5 + 2 * WE_MAX_RANK + i] = region.dst.stride[i];
    }
}

static void record_table(we_recorder *r, const we_command *c, int64_t width) {
    size_t count = c->u.raster.count, bytes = count * ROW * sizeof(int64_t);
    int64_t *table = we_arena_new(&r->program->arena, bytes), end = 0;
    bool is_long = false;
    if (!table) {
        we_record_fail(r, we_error_no_memory(r->err));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        put_row(r, &c->u.raster.regions[i], width, &end, table + i * ROW);
        is_long = is_long || is_wide(&c->u.raster.regions[i]);
    }
    is_long = is_long || end > INT32_MAX / 2;
    we_spot at = we_record_constant(r, table, bytes);
    kernel(r, "raster_table", 0, is_long, (size_t)width);
    if (is_long)
        we_record_long(r, end);
    else
        we_record_int(r, end);
    we_record_int(r, (int64_t)count);
    we_record_spot(r, at);
    we_record_buffer(r, WE_SPACE_WORK);
    we_record_buffer(r, WE_SPACE_CONSTANT);
    we_record_tensor(r, c->out);
    we_record_items(r, end, we_opencl_group(r));
}

static void record_fill(we_recorder *r, const we_command *c, size_t width) {
    const we_tensor *out = &r->program->tensors[c->out];
    uint64_t bits = 0;
    we_cpu_element(out->dtype, c->u.raster.fill, (char *)&bits);
    kernel(r, "fill", 1, false, width);
    we_record_long(r, out->count);
    we_record_long(r, (int64_t)bits);
    we_record_tensor(r, c->out);
    we_record_items(r, out->count, we_opencl_group(r));
}

void we_opencl_raster(we_recorder *r, const we_command *c) {
    size_t width = we_dtype_size(r->program->tensors[c->out].dtype);
    if (!c->u.raster.partial && !we_raster_is_full(r->program, c))
        record_fill(r, c, width);
    if (c->u.raster.count == 1)
        record_one(r, &c->u.raster.regions[0], c->out, (int64_t)width);
    else if (c->u.raster.count > 1)
        record_table(r, c, (int64_t)width);
}

void we_opencl_copy(we_recorder *r, int32_t from, int32_t to) {
    const we_tensor *t = &r->program->tensors[to];
    int64_t bytes = t->count * (int64_t)we_dtype_size(t->dtype);
    kernel(r, "copy", 1, false, 1);
    we_record_long(r, bytes);
    we_record_tensor(r, from);
    we_record_tensor(r, to);
    we_record_items(r, bytes, we_opencl_group(r));
}
