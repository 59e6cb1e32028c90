/* Vertical merging: writer x -> t, reader t -> y becomes one region x -> y.
 *
 * The writer's destination is read as a mixed-radix number system: sorted by stride, each stride a multiple
 * of what the dims below it span, so an address decodes into coordinates in one way. Each of the reader's
 * dims must walk along exactly one writer dim; one that runs over several is split where the digits carry. */
#include <stdlib.h>
#include <string.h>

#include "raster/region.h"

typedef struct digit {
    int64_t size, dst, src; /* extent, stride in t, stride in the source */
    int64_t low, high;      /* coordinates the reader touches */
} digit;

/* The writer's dims, largest stride first; false if addresses do not decode uniquely. */
static bool digits_of(const we_region *writer, digit *digits, int32_t *count) {
    *count = 0;
    for (int32_t i = 0; i < writer->rank; i++) {
        if (writer->size[i] == 1)
            continue;
        if (writer->size[i] == 0 || writer->dst.stride[i] <= 0)
            return false;
        int32_t at = (*count)++;
        for (; at > 0 && digits[at - 1].dst < writer->dst.stride[i]; at--)
            digits[at] = digits[at - 1];
        digits[at] =
            (digit){.size = writer->size[i], .dst = writer->dst.stride[i], .src = writer->src.stride[i]};
    }
    for (int32_t i = 0; i + 1 < *count; i++) {
        if (digits[i].dst < digits[i + 1].dst * digits[i + 1].size)
            return false;
    }
    return true;
}

/* The digit a step of `stride` in t advances, and by how much; -1 where it is no single digit. */
static int32_t digit_of(const digit *digits, int32_t count, int64_t stride, int64_t *advance) {
    int64_t distance = llabs(stride);
    for (int32_t d = 0; d < count; d++) {
        if (distance >= digits[d].dst) {
            if (distance % digits[d].dst)
                return -1;
            *advance = stride / digits[d].dst;
            return d;
        }
    }
    return -1;
}

/* Split the reader's dims until each stays within one digit; false where that is not possible. */
static bool split_dims(const we_region *reader, const digit *digits, int32_t count, we_box *box) {
    we_box pending = {0};
    pending.rank = reader->rank;
    for (int32_t i = 0; i < reader->rank; i++) { /* a stack, so the outermost dim must be on top */
        int32_t from = reader->rank - 1 - i;
        pending.size[i] = reader->size[from];
        pending.src_stride[i] = reader->src.stride[from];
        pending.dst_stride[i] = reader->dst.stride[from];
    }
    box->rank = 0;
    while (pending.rank > 0) {
        int32_t top = --pending.rank;
        int64_t size = pending.size[top], src = pending.src_stride[top], dst = pending.dst_stride[top],
                advance = 0;
        int32_t d = src == 0 || size == 1 ? 0 : digit_of(digits, count, src, &advance);
        if (d < 0)
            return false;
        if (src == 0 || size == 1 || (size - 1) * llabs(advance) < digits[d].size) {
            if (box->rank == WE_BOX_RANK)
                return false;
            box->size[box->rank] = size;
            box->src_stride[box->rank] = size == 1 ? 0 : src;
            box->dst_stride[box->rank++] = dst;
            continue;
        }
        if (digits[d].size % llabs(advance))
            return false;
        int64_t inner = digits[d].size / llabs(advance);
        if (inner < 2 || size % inner || pending.rank + 2 > WE_BOX_RANK)
            return false;
        pending.size[top] = inner;
        pending.src_stride[top] = src;
        pending.dst_stride[top] = dst;
        pending.size[top + 1] = size / inner;
        pending.src_stride[top + 1] = src * inner;
        pending.dst_stride[top + 1] = dst * inner;
        pending.rank += 2;
    }
    return true;
}

bool we_region_compose(const we_region *writer, const we_region *reader, we_region *out) {
    digit digits[WE_MAX_RANK];
    int32_t count;
    we_box box = {0};
    int64_t lowest = reader->src.offset - writer->dst.offset;
    if (we_region_count(reader) == 0 || !digits_of(writer, digits, &count) ||
        !split_dims(reader, digits, count, &box))
        return false;
    for (int32_t i = 0; i < box.rank; i++)
        lowest += box.src_stride[i] < 0 ? (box.size[i] - 1) * box.src_stride[i] : 0;
    if (lowest < 0)
        return false;
    /* Decode the corner with the lowest address; every digit then only counts up from there. */
    int64_t rest = lowest;
    box.src_offset = writer->src.offset;
    for (int32_t d = 0; d < count; d++) {
        digits[d].low = digits[d].high = rest / digits[d].dst;
        rest -= digits[d].low * digits[d].dst;
        box.src_offset += digits[d].low * digits[d].src;
    }
    if (rest != 0)
        return false;
    for (int32_t i = 0; i < box.rank; i++) {
        int64_t advance = 0;
        if (box.src_stride[i] == 0)
            continue;
        int32_t d = digit_of(digits, count, box.src_stride[i], &advance);
        digits[d].high += (box.size[i] - 1) * llabs(advance);
        box.src_stride[i] = advance * digits[d].src;
        if (advance < 0) /* the walk starts at this digit's upper end */
            box.src_offset -= (box.size[i] - 1) * box.src_stride[i];
    }
    for (int32_t d = 0; d < count; d++) {
        if (digits[d].high >= digits[d].size)
            return false;
    }
    box.dst_offset = reader->dst.offset;
    we_box_coalesce(&box);
    if (box.rank > WE_MAX_RANK)
        return false;
    we_region merged = {.source = writer->source, .rank = box.rank};
    merged.src.offset = box.src_offset;
    merged.dst.offset = box.dst_offset;
    memcpy(merged.size, box.size, sizeof merged.size);
    memcpy(merged.src.stride, box.src_stride, sizeof merged.src.stride);
    memcpy(merged.dst.stride, box.dst_stride, sizeof merged.dst.stride);
    *out = merged;
    return true;
}
