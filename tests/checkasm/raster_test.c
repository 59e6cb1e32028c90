/* Random rasters read by random regions: what goes through the merged regions must equal copying twice, bit
 * for bit, and what is left over must be exactly what no writer writes. */
#include <string.h>

#include "check.h"
#include "raster/region.h"

enum {
    CASES = 200000,
    SOURCE = 4096, /* elements */
    MIDDLE = 4096,
    RESULT = 4096,
    WRITERS = 3,
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

/* A writer: dense or gappy nested destination in random dim order and direction, source strides of any sign
 * or 0. */
static void random_writer(we_region *r) {
    int32_t order[WE_MAX_RANK];
    int64_t reached = check_below(4) ? 1 : 1 + check_below(3), low = 0;
    memset(r, 0, sizeof *r);
    r->rank = shuffle(1 + (int32_t)check_below(4), order);
    r->dst.offset = check_below(6);
    for (int32_t i = 0; i < r->rank; i++) {
        int32_t d = order[i];
        r->size[d] = 1 + check_below(5);
        r->dst.stride[d] = reached;
        reached *= r->size[d] + (check_below(3) == 0 ? check_below(2) : 0);
        r->src.stride[d] = check_below(21) - 10;
        low += r->src.stride[d] < 0 ? (r->size[d] - 1) * r->src.stride[d] : 0;
        if (check_below(8) == 0) {
            r->dst.offset += (r->size[d] - 1) * r->dst.stride[d];
            r->dst.stride[d] = -r->dst.stride[d];
        }
    }
    r->src.offset = -low + check_below(8);
}

/* A reader whose strides are mostly multiples of the writer's, so that many pairs merge. */
static void random_reader(const we_region *writer, we_region *r) {
    int64_t low = 0, reached = 1;
    memset(r, 0, sizeof *r);
    r->rank = 1 + (int32_t)check_below(4);
    for (int32_t i = r->rank; i-- > 0;) {
        int32_t d = (int32_t)check_below(writer->rank);
        bool whole = check_below(4) == 0;
        r->size[i] = whole ? writer->size[d] : 1 + check_below(7);
        r->src.stride[i] =
            check_below(8) ? writer->dst.stride[d] * (whole ? 1 : check_below(4) - 1) : check_below(9) - 4;
        low += r->src.stride[i] < 0 ? (r->size[i] - 1) * r->src.stride[i] : 0;
        r->dst.stride[i] = reached;
        reached *= r->size[i];
    }
    r->src.offset = check_below(8) - low;
}

static bool in_bounds(const we_region *r, const we_address *a, int64_t room) {
    int64_t low = a->offset, high = a->offset;
    for (int32_t i = 0; i < r->rank; i++) {
        low += a->stride[i] < 0 ? (r->size[i] - 1) * a->stride[i] : 0;
        high += a->stride[i] > 0 ? (r->size[i] - 1) * a->stride[i] : 0;
    }
    return low >= 0 && high < room;
}

/* Mark what a region writes; false where that overlaps what is marked. */
static bool claim_places(const we_region *r, bool *taken) {
    static uint32_t ones[SOURCE], places[MIDDLE];
    for (int i = 0; i < SOURCE; i++)
        ones[i] = 1;
    memset(places, 0, sizeof places);
    we_region_copy(r, 4, ones, places);
    int64_t count = 0;
    for (int i = 0; i < MIDDLE; i++)
        count += places[i];
    bool apart = count == we_region_count(r); /* the writer itself does not overlap */
    for (int i = 0; i < MIDDLE; i++)
        apart = apart && !(taken[i] && places[i]);
    for (int i = 0; apart && i < MIDDLE; i++)
        taken[i] = taken[i] || places[i];
    return apart;
}

static uint32_t source[SOURCE], middle[MIDDLE], twice[RESULT], once[RESULT];
static we_box_list reader_boxes, spare;
static we_region_list through;

/* What the boxes left over write must be what stayed 0. */
static void check_rest(int number) {
    for (size_t i = 0; i < reader_boxes.count; i++) {
        we_region rest = {0};
        if (!we_box_to_region(&reader_boxes.at[i], &rest))
            continue;
        static uint32_t marks[RESULT];
        static uint32_t ones[MIDDLE];
        memset(marks, 0, sizeof marks);
        for (int e = 0; e < MIDDLE; e++)
            ones[e] = 1;
        we_region_copy(&rest, 4, ones, marks);
        for (int e = 0; e < RESULT; e++)
            CHECK(!marks[e] || (twice[e] == 0 && once[e] == 0),
                  "case %d: element %d is left over but written", number, e);
    }
}

/* 1 where the reader merged, -1 where a part of it was left over as well. */
static int check_case(int number) {
    static bool taken[MIDDLE];
    we_region writers[WRITERS], reader;
    int32_t count = 0, wanted = 1 + (int32_t)check_below(WRITERS);
    memset(taken, 0, sizeof taken);
    memset(middle, 0, sizeof middle);
    for (int32_t i = 0; i < wanted; i++) {
        we_region *w = &writers[count];
        random_writer(w);
        if (i > 0) /* behind or between the others */
            w->dst.offset += check_below(40);
        if (!in_bounds(w, &w->src, SOURCE) || !in_bounds(w, &w->dst, MIDDLE) || !claim_places(w, taken))
            continue;
        we_region_copy(w, 4, source, middle);
        count++;
    }
    if (count == 0)
        return 0;
    random_reader(&writers[check_below(count)], &reader);
    if (!in_bounds(&reader, &reader.src, MIDDLE) || !in_bounds(&reader, &reader.dst, RESULT))
        return 0;
    reader_boxes.count = 1;
    through.count = 0;
    we_box_of_region(&reader, &reader_boxes.at[0]);
    for (int32_t i = 0; i < count; i++) {
        if (!we_region_compose(&writers[i], &reader_boxes, &spare, &through))
            return 0;
    }
    memset(twice, 0, sizeof twice);
    memset(once, 0, sizeof once);
    we_region_copy(&reader, 4, middle, twice);
    for (size_t i = 0; i < through.count; i++) {
        const we_region *merged = &through.at[i];
        bool inside = in_bounds(merged, &merged->src, SOURCE) && in_bounds(merged, &merged->dst, RESULT);
        CHECK(inside, "case %d: a merged region leaves the tensors", number);
        if (inside)
            we_region_copy(merged, 4, source, once);
    }
    CHECK(memcmp(once, twice, sizeof once) == 0, "case %d: merged and unmerged differ", number);
    int64_t elements = 0;
    for (size_t i = 0; i < through.count; i++)
        elements += we_region_count(&through.at[i]);
    for (int e = 0; e < RESULT; e++)
        elements -= once[e] != 0;
    CHECK(elements == 0, "case %d: merged regions overlap", number);
    check_rest(number);
    return through.count == 0 ? 0 : reader_boxes.count ? -1 : 1;
}

int main(int argc, char **argv) {
    int64_t whole = 0, in_part = 0;
    check_seed(argc, argv);
    for (int i = 0; i < SOURCE; i++)
        source[i] = (uint32_t)i + 1; /* never 0, so that unwritten elements are seen */
    int cases = check_count(argc, argv, CASES);
    for (int number = 0; number < cases; number++) {
        int merged = check_case(number);
        whole += merged > 0;
        in_part += merged < 0;
    }
    printf("%d cases, %" PRId64 " merged whole, %" PRId64 " in part\n", cases, whole, in_part);
    CHECK(whole > cases / 20 && in_part > cases / 20,
          "hardly any case merged: the generator or the merge is broken");
    return check_result();
}
