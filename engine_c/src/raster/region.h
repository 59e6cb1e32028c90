/* A region moves one box of elements: for every x in the box, out[dst(x)] = in[src(x)], where a view is
 * address(x) = offset + sum of stride[i] * x[i], in elements. Strides have any sign; a source stride of 0
 * repeats. Destinations of the regions of one raster never overlap, so their order does not matter. */
#ifndef WE_RASTER_REGION_H
#define WE_RASTER_REGION_H

#include <stdbool.h>

#include <walle/engine.h>

enum {
    WE_BOX_RANK = 2 * WE_MAX_RANK, /* loop dims a rule may write before they are coalesced */
};

typedef struct we_address {
    int64_t offset;
    int64_t stride[WE_MAX_RANK];
} we_address;

typedef struct we_region {
    int32_t source; /* tensor of the program */
    int32_t rank;
    int64_t size[WE_MAX_RANK];
    we_address src, dst;
} we_region;

/* The same with room for the loop dims of a rule. */
typedef struct we_box {
    int32_t rank;
    int64_t size[WE_BOX_RANK];
    int64_t src_offset, src_stride[WE_BOX_RANK];
    int64_t dst_offset, dst_stride[WE_BOX_RANK];
} we_box;

/* Drop dims of 1 and fuse neighbours that advance as one, in place. */
void we_box_coalesce(we_box *box);
void we_region_coalesce(we_region *region);
int64_t we_region_count(const we_region *region); /* elements moved */

/* Copy the region's elements of `width` bytes each. in and out must not overlap. */
void we_region_copy(const we_region *region, size_t width, const void *in, void *out);

enum {
    WE_BOX_LIST = 128, /* parts a reader may fall into before merging is given up */
};

typedef struct we_box_list {
    we_box at[WE_BOX_LIST];
    size_t count;
} we_box_list;

typedef struct we_region_list {
    we_region at[WE_BOX_LIST];
    size_t count;
} we_region_list;

void we_box_of_region(const we_region *region, we_box *box);
/* Coalesces; false where more dims are left than a region has. Sets all but the source. */
bool we_box_to_region(const we_box *box, we_region *region);

/* `reader` holds boxes that read what `writer` (a region of the producing raster) writes. What the writer
 * covers is added to `out` as regions that read its source directly; `reader` keeps the parts it does not
 * cover. False where that cannot be expressed in few boxes: then all three lists are garbage. `spare` is
 * working memory. */
bool we_region_compose(const we_region *writer, we_box_list *reader, we_box_list *spare, we_region_list *out);

#endif
