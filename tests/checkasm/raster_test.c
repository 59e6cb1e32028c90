/* Random pairs of regions: reading through the merged region must equal copying twice, bit for bit; and where
 * a merge is accepted, the reader must lie inside what the writer writes. */
#include <string.h>

#include "check.h"
#include "raster/region.h"

enum {
    PAIRS = 200000,
    SOURCE = 4096, /* elements */
    MIDDLE = 4096,
    RESULT = 4096,
};

static int32_t shuffle(int32_t rank, int32_t *order) {
    for (int32_t i = 0; i < rank; i++)
        order[i] = i;
    for (int32_t i = rank - 1; i > 0; i--) {
        int32_t j = (int32_t)check_below(i + 1), keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
    return rank;
}

/* A writer: dense or gappy nested destination in random dim order, source strides of any sign or 0. */
static void random_writer(we_region *r) {
    int32_t order[WE_MAX_RANK];
    int64_t reached = 1, low = 0;
    memset(r, 0, sizeof *r);
    r->rank = shuffle(1 + (int32_t)check_below(4), order);
    for (int32_t i = 0; i < r->rank; i++) {
        int32_t d = order[i];
        r->size[d] = 1 + check_below(5);
        r->dst.stride[d] = reached;
        reached *= r->size[d] + (check_below(3) == 0 ? check_below(2) : 0);
        r->src.stride[d] = check_below(21) - 10;
        low += r->src.stride[d] < 0 ? (r->size[d] - 1) * r->src.stride[d] : 0;
    }
    r->src.offset = -low + check_below(8);
    r->dst.offset = check_below(6);
}

/* A reader whose strides are mostly multiples of the writer's, so that many pairs merge. */
static void random_reader(const we_region *writer, we_region *r) {
    int64_t low = 0, reached = 1;
    memset(r, 0, sizeof *r);
    r->rank = 1 + (int32_t)check_below(4);
    for (int32_t i = r->rank; i-- > 0;) {
        int32_t d = (int32_t)check_below(writer->rank);
        bool whole = check_below(4) == 0;
        r->size[i] = whole ? writer->size[d] : 1 + check_below(5);
        r->src.stride[i] =
            check_below(8) ? writer->dst.stride[d] * (whole ? 1 : check_below(4) - 1) : check_below(9) - 4;
        low += r->src.stride[i] < 0 ? (r->size[i] - 1) * r->src.stride[i] : 0;
        r->dst.stride[i] = reached;
        reached *= r->size[i];
    }
    r->src.offset = writer->dst.offset - low + (check_below(2) ? 0 : check_below(12));
}

static bool in_bounds(const we_region *r, const we_address *a, int64_t room) {
    int64_t low = a->offset, high = a->offset;
    for (int32_t i = 0; i < r->rank; i++) {
        low += a->stride[i] < 0 ? (r->size[i] - 1) * a->stride[i] : 0;
        high += a->stride[i] > 0 ? (r->size[i] - 1) * a->stride[i] : 0;
    }
    return low >= 0 && high < room;
}

int main(int argc, char **argv) {
    static uint32_t source[SOURCE], middle[MIDDLE], twice[RESULT], once[RESULT];
    int64_t merged_pairs = 0;
    check_seed(argc, argv);
    for (int i = 0; i < SOURCE; i++)
        source[i] = (uint32_t)i + 1; /* never 0, so that unwritten elements are seen */
    for (int pair = 0; pair < PAIRS; pair++) {
        we_region writer, reader, merged;
        random_writer(&writer);
        random_reader(&writer, &reader);
        if (!in_bounds(&writer, &writer.src, SOURCE) || !in_bounds(&writer, &writer.dst, MIDDLE) ||
            !in_bounds(&reader, &reader.src, MIDDLE) || !in_bounds(&reader, &reader.dst, RESULT))
            continue;
        if (!we_region_compose(&writer, &reader, &merged))
            continue;
        merged_pairs++;
        memset(middle, 0, sizeof middle);
        memset(twice, 0, sizeof twice);
        memset(once, 0, sizeof once);
        we_region_copy(&writer, 4, source, middle);
        we_region_copy(&reader, 4, middle, twice);
        bool inside = in_bounds(&merged, &merged.src, SOURCE) && in_bounds(&merged, &merged.dst, RESULT);
        CHECK(inside, "pair %d: the merged region leaves the tensors", pair);
        if (inside)
            we_region_copy(&merged, 4, source, once);
        CHECK(memcmp(once, twice, sizeof once) == 0, "pair %d: merged and unmerged differ", pair);
        bool unwritten = false;
        for (int64_t e = 0; e < we_region_count(&reader); e++)
            unwritten = unwritten || once[e] == 0;
        CHECK(!unwritten, "pair %d: merged although the reader reads what the writer does not write", pair);
    }
    printf("%d pairs, %" PRId64 " merged\n", PAIRS, merged_pairs);
    CHECK(merged_pairs > PAIRS / 20, "hardly any pair merged: the generator or the merge is broken");
    return check_result();
}
