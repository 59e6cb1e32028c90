/* A table of positions is cut into runs of equal steps, each one region. Where the table is an upscaling,
 * every k-th entry makes a long run though neighbours do not, so several k are tried. */
#include "geometry/pick.h"

enum {
    MOST_PHASES = 8,
};

/* Entries from `at` on, `phases` apart, that form one run. */
static int64_t run_length(const we_picked *p, int64_t at, int64_t phases) {
    int64_t length = 1;
    for (; at + phases * length < p->count; length++) {
        int64_t step = p->table[at + phases] - p->table[at];
        if (p->table[at + phases * length] - p->table[at + phases * (length - 1)] != step)
            break;
    }
    return length;
}

static int64_t runs_in(const we_picked *p, int64_t phases) {
    int64_t runs = 0;
    for (int64_t phase = 0; phase < phases && phase < p->count; phase++) {
        for (int64_t at = phase; at < p->count; at += phases * run_length(p, at, phases))
            runs++;
    }
    return runs;
}

void we_pick(we_lower *l, we_raster *raster, int32_t source, const we_picked *p) {
    int64_t phases = 1, fewest = runs_in(p, 1);
    for (int64_t k = 2; k <= MOST_PHASES; k++) {
        int64_t runs = runs_in(p, k);
        phases = runs < fewest ? k : phases;
        fewest = runs < fewest ? runs : fewest;
    }
    for (int64_t phase = 0; phase < phases && phase < p->count; phase++) {
        int64_t length;
        for (int64_t at = phase; at < p->count && l->status == WE_OK; at += phases * length) {
            length = run_length(p, at, phases);
            int64_t step = length > 1 ? p->table[at + phases] - p->table[at] : 0;
            we_box box = {.rank = 3,
                          .size = {p->outer, length, p->inner},
                          .src_offset = p->table[at] * p->inner,
                          .src_stride = {p->axis * p->inner, step * p->inner, 1},
                          .dst_offset = p->offset + at * p->inner,
                          .dst_stride = {p->count * p->inner, phases * p->inner, 1}};
            we_raster_add(l, raster, source, &box);
        }
    }
}
