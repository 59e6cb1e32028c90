#include "raster/region.h"

#include <string.h>

void we_box_coalesce(we_box *box) {
    int32_t rank = 0;
    for (int32_t i = 0; i < box->rank; i++) {
        if (box->size[i] == 1)
            continue;
        if (rank > 0 && box->src_stride[rank - 1] == box->src_stride[i] * box->size[i] &&
            box->dst_stride[rank - 1] == box->dst_stride[i] * box->size[i]) {
            box->size[rank - 1] *= box->size[i];
            box->src_stride[rank - 1] = box->src_stride[i];
            box->dst_stride[rank - 1] = box->dst_stride[i];
            continue;
        }
        box->size[rank] = box->size[i];
        box->src_stride[rank] = box->src_stride[i];
        box->dst_stride[rank] = box->dst_stride[i];
        rank++;
    }
    box->rank = rank;
}

void we_box_of_region(const we_region *region, we_box *box) {
    box->rank = region->rank;
    box->src_offset = region->src.offset;
    box->dst_offset = region->dst.offset;
    memcpy(box->size, region->size, sizeof region->size);
    memcpy(box->src_stride, region->src.stride, sizeof region->src.stride);
    memcpy(box->dst_stride, region->dst.stride, sizeof region->dst.stride);
}

bool we_box_to_region(const we_box *given, we_region *region) {
    we_box box = *given;
    we_box_coalesce(&box);
    if (box.rank > WE_MAX_RANK)
        return false;
    region->rank = box.rank;
    region->src.offset = box.src_offset;
    region->dst.offset = box.dst_offset;
    memcpy(region->size, box.size, sizeof region->size);
    memcpy(region->src.stride, box.src_stride, sizeof region->src.stride);
    memcpy(region->dst.stride, box.dst_stride, sizeof region->dst.stride);
    return true;
}

void we_region_coalesce(we_region *region) {
    we_box box;
    we_box_of_region(region, &box);
    we_box_to_region(&box, region); /* never more dims than before */
}

int64_t we_region_count(const we_region *region) {
    int64_t count = 1;
    for (int32_t i = 0; i < region->rank; i++)
        count *= region->size[i];
    return count;
}

/* ---- Plain executor ---- */

#define COPY_RUN(TYPE)                                                                                       \
    static void copy_run_##TYPE(int64_t n, const char *from, int64_t step, char *to, int64_t to_step) {      \
        const TYPE *in = (const TYPE *)from;                                                                 \
        TYPE *out = (TYPE *)to;                                                                              \
        for (int64_t i = 0; i < n; i++)                                                                      \
            out[i * to_step] = in[i * step];                                                                 \
    }
COPY_RUN(uint8_t)
COPY_RUN(uint16_t)
COPY_RUN(uint32_t)
COPY_RUN(uint64_t)

typedef void (*run_copier)(int64_t n, const char *from, int64_t step, char *to, int64_t to_step);

static run_copier copier_of(size_t width) {
    switch (width) {
    case 1:
        return copy_run_uint8_t;
    case 2:
        return copy_run_uint16_t;
    case 4:
        return copy_run_uint32_t;
    default:
        return copy_run_uint64_t;
    }
}

void we_region_copy(const we_region *region, size_t width, const void *in, void *out) {
    we_region r = *region;
    we_region_coalesce(&r);
    int64_t wide = (int64_t)width, x[WE_MAX_RANK] = {0};
    const char *from = (const char *)in + r.src.offset * wide;
    char *to = (char *)out + r.dst.offset * wide;
    int32_t last = r.rank - 1;
    int64_t n = r.rank ? r.size[last] : 1, step = r.rank ? r.src.stride[last] : 1;
    int64_t to_step = r.rank ? r.dst.stride[last] : 1;
    run_copier copy = copier_of(width);
    if (we_region_count(&r) == 0)
        return;
    for (;;) {
        if (step == 1 && to_step == 1)
            memcpy(to, from, (size_t)(n * wide));
        else
            copy(n, from, step, to, to_step);
        int32_t i = last - 1;
        for (; i >= 0; i--) {
            from += r.src.stride[i] * wide;
            to += r.dst.stride[i] * wide;
            if (++x[i] < r.size[i])
                break;
            from -= r.src.stride[i] * wide * r.size[i];
            to -= r.dst.stride[i] * wide * r.size[i];
            x[i] = 0;
        }
        if (i < 0)
            return;
    }
}
