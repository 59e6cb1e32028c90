/* The gradient of a raster: the same regions with their two views exchanged. Where those overlap, which
 * reading may and writing may not, each place gets the sum. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "geometry/lower.h"
#include "grad/grad.h"

enum {
    MAX_PIECES = 1 << 14, /* regions that one may have to be split into */
    MAX_STEPS = 1 << 12,  /* of looking for a common place of two regions, which is then taken to exist */
};

typedef struct pieces {
    we_region *at;
    size_t count, room;
} pieces;

static void push(we_lower *l, pieces *list, const we_region *region) {
    if (l->status != WE_OK)
        return;
    if (list->count == MAX_PIECES)
        we_lower_fail(l, WE_INVALID_MODEL, "what it reads overlaps in too many ways to be differentiated");
    else if (!we_memory_grow((void **)&list->at, &list->room, list->count, sizeof *list->at))
        l->status = we_error_no_memory(l->call.err);
    else
        list->at[list->count++] = *region;
}

static int64_t size_of(int64_t stride) {
    return stride < 0 ? -stride : stride;
}

/* ---- Does a region write a place twice? ---- */

/* A dim by which it may, or -1: sorted by stride, each must step over all that the smaller ones reach. */
static int32_t overlapping_dim(const we_region *region) {
    int32_t order[WE_MAX_RANK], count = 0;
    int64_t reach = 0;
    for (int32_t i = 0; i < region->rank; i++) {
        int32_t to = count;
        if (region->size[i] == 1)
            continue;
        for (; to > 0 && size_of(region->dst.stride[order[to - 1]]) > size_of(region->dst.stride[i]); to--)
            order[to] = order[to - 1];
        order[to] = i;
        count++;
    }
    for (int32_t i = 0; i < count; i++) {
        int64_t stride = size_of(region->dst.stride[order[i]]);
        if (stride <= reach) /* splitting the shorter of two that meet makes fewer pieces */
            return i > 0 && region->size[order[i - 1]] < region->size[order[i]] ? order[i - 1] : order[i];
        reach += stride * (region->size[order[i]] - 1);
    }
    return -1;
}

static void split(we_lower *l, const we_region *region, pieces *out) {
    int32_t dim = overlapping_dim(region);
    if (dim < 0) {
        push(l, out, region);
        return;
    }
    we_region part = *region;
    part.size[dim] = 1;
    for (int64_t i = 0; i < region->size[dim] && l->status == WE_OK; i++) {
        split(l, &part, out);
        part.src.offset += region->src.stride[dim];
        part.dst.offset += region->dst.stride[dim];
    }
}

/* ---- Do two regions write a common place? ---- */

/* stride * d with low <= d <= high */
typedef struct term {
    int64_t stride, low, high;
} term;

typedef struct search {
    term terms[2 * WE_MAX_RANK];
    int64_t least[2 * WE_MAX_RANK + 1], most[2 * WE_MAX_RANK + 1]; /* of the sum of terms from here on */
    int32_t count, steps;
} search;

static int by_stride(const void *a, const void *b) {
    int64_t left = ((const term *)a)->stride, right = ((const term *)b)->stride;
    return (left < right) - (left > right);
}

static void add_terms(search *s, const we_region *region, int64_t sign) {
    for (int32_t i = 0; i < region->rank; i++) {
        int64_t stride = sign * region->dst.stride[i], last = region->size[i] - 1;
        if (stride == 0 || last == 0)
            continue;
        s->terms[s->count++] = (term){size_of(stride), stride < 0 ? -last : 0, stride < 0 ? 0 : last};
    }
}

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static bool reaches(search *s, int32_t at, int64_t wanted) {
    if (wanted < s->least[at] || wanted > s->most[at])
        return false;
    if (at == s->count || ++s->steps > MAX_STEPS)
        return true;
    const term *t = &s->terms[at];
    int64_t low = -floor_div(s->most[at + 1] - wanted, t->stride);
    int64_t high = floor_div(wanted - s->least[at + 1], t->stride);
    low = low > t->low ? low : t->low;
    high = high < t->high ? high : t->high;
    for (int64_t d = low; d <= high; d++) {
        if (reaches(s, at + 1, wanted - d * t->stride))
            return true;
    }
    return false;
}

static bool may_meet(const we_region *a, const we_region *b) {
    search s = {.count = 0};
    add_terms(&s, a, 1);
    add_terms(&s, b, -1);
    qsort(s.terms, (size_t)s.count, sizeof *s.terms, by_stride);
    int32_t kept = 0;
    for (int32_t i = 0; i < s.count; i++) {
        if (kept > 0 && s.terms[kept - 1].stride == s.terms[i].stride) {
            s.terms[kept - 1].low += s.terms[i].low;
            s.terms[kept - 1].high += s.terms[i].high;
        } else {
            s.terms[kept++] = s.terms[i];
        }
    }
    s.count = kept;
    for (int32_t i = kept; i-- > 0;) {
        s.least[i] = s.least[i + 1] + s.terms[i].stride * s.terms[i].low;
        s.most[i] = s.most[i + 1] + s.terms[i].stride * s.terms[i].high;
    }
    return reaches(&s, 0, b->dst.offset - a->dst.offset);
}

/* ---- Scattering ---- */

/* A region as the box of a raster, with its result moved by so many elements. */
static we_box box_of(const we_region *region, int64_t moved) {
    we_box box = {.rank = 0};
    we_box_of_region(region, &box);
    box.dst_offset += moved;
    return box;
}

/* Sum over the dims whose result does not move: they become a tensor of their own, which the region then
 * reads. */
static void sum_repeated(we_lower *l, we_region *region) {
    we_region kept = {.rank = 0, .dst.offset = region->dst.offset};
    we_box box = {.src_offset = region->src.offset};
    bool reduced[WE_MAX_RANK] = {true};
    int64_t repeats = 1, count = 1;
    for (int32_t pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < region->rank; i++) {
            bool repeated = region->dst.stride[i] == 0 && region->size[i] > 1;
            if (repeated != (pass == 0))
                continue;
            box.size[box.rank] = region->size[i];
            box.src_stride[box.rank++] = region->src.stride[i];
            *(repeated ? &repeats : &count) *= region->size[i];
            if (repeated)
                continue;
            kept.size[kept.rank] = region->size[i];
            kept.dst.stride[kept.rank++] = region->dst.stride[i];
        }
    }
    if (repeats == 1)
        return;
    we_strides(kept.rank, kept.size, kept.src.stride);
    we_strides(box.rank, box.size, box.dst_stride);
    int64_t dims[2] = {repeats, count};
    we_raster raster = {0};
    int32_t lined_up = we_lower_temp(l, we_lower_tensor(l, region->source).dtype, 2, dims);
    we_raster_add(l, &raster, region->source, &box);
    we_emit_raster(l, &raster, lined_up);
    kept.source = we_emit_reduce(l, WE_REDUCE_Sum, lined_up, reduced, WE_NEW);
    *region = kept;
}

static bool meets_in_plane(const pieces *list, const int64_t *plane, size_t region) {
    for (size_t i = 0; i < region; i++) {
        if (plane[i] == plane[region] && may_meet(&list->at[i], &list->at[region]))
            return true;
    }
    return false;
}

/* Give each region the first plane where it meets no other; the number of planes. */
static int64_t assign_planes(const pieces *list, int64_t *plane) {
    int64_t planes = 1;
    for (size_t i = 0; i < list->count; i++) {
        for (plane[i] = 0; meets_in_plane(list, plane, i); plane[i]++) {
        }
        planes = plane[i] + 1 > planes ? plane[i] + 1 : planes;
    }
    return planes;
}

static int32_t emit_planes(we_lower *l, const pieces *list, const int64_t *plane, int64_t planes,
                           const we_tensor *like) {
    int64_t dims[2] = {planes, like->count};
    bool reduced[WE_MAX_RANK] = {true};
    we_raster raster = {0};
    int32_t into = planes == 1 ? we_lower_temp(l, like->dtype, like->rank, like->dims)
                               : we_lower_temp(l, like->dtype, 2, dims);
    for (size_t i = 0; i < list->count; i++) {
        we_box box = box_of(&list->at[i], plane[i] * like->count);
        we_raster_add(l, &raster, list->at[i].source, &box);
    }
    we_emit_raster(l, &raster, into);
    if (planes == 1)
        return into;
    int32_t sum = we_emit_reduce(l, WE_REDUCE_Sum, into, reduced, WE_NEW);
    return we_emit_reshape(l, sum, like->rank, like->dims, WE_NEW);
}

/* Does the region bring all of its source, in order, to all of the result? */
static bool is_whole(const we_lower *l, const we_region *given, const we_tensor *like) {
    we_region r = *given;
    we_region_coalesce(&r);
    return we_region_count(&r) == like->count && we_lower_tensor(l, r.source).count == like->count &&
           r.src.offset == 0 && r.dst.offset == 0 &&
           (r.rank == 0 || (r.rank == 1 && r.src.stride[0] == 1 && r.dst.stride[0] == 1));
}

int32_t we_grad_scatter(we_lower *l, const we_region *regions, size_t count, const we_tensor *like) {
    pieces list = {0};
    if (l->status == WE_OK && count == 1 && is_whole(l, regions, like))
        return regions->source;
    int32_t result = WE_NEW;
    for (size_t i = 0; i < count && l->status == WE_OK; i++) {
        we_region region = regions[i];
        if (we_region_count(&region) == 0)
            continue;
        sum_repeated(l, &region);
        split(l, &region, &list);
    }
    int64_t *plane = we_memory_new((list.count + 1) * sizeof *plane);
    if (!plane && l->status == WE_OK)
        l->status = we_error_no_memory(l->call.err);
    if (l->status == WE_OK)
        result = emit_planes(l, &list, plane, assign_planes(&list, plane), like);
    we_memory_free(plane);
    we_memory_free(list.at);
    return result;
}

/* ---- The command ---- */

/* Regions that bring the gradient of the result to that of one source. */
static void exchange(const we_command *command, int32_t source, int32_t of_out, pieces *out, we_lower *l) {
    for (size_t i = 0; i < command->u.raster.count; i++) {
        const we_region *region = &command->u.raster.regions[i];
        we_region exchanged = *region;
        if (region->source != source)
            continue;
        exchanged.source = of_out;
        exchanged.src = region->dst;
        exchanged.dst = region->src;
        push(l, out, &exchanged);
    }
}

static bool met_before(const we_command *command, size_t region) {
    for (size_t i = 0; i < region; i++) {
        if (command->u.raster.regions[i].source == command->u.raster.regions[region].source)
            return true;
    }
    return false;
}

void we_grad_raster(we_gradients *g, const we_command *command, int32_t of_out) {
    for (size_t i = 0; i < command->u.raster.count && g->l->status == WE_OK; i++) {
        int32_t source = command->u.raster.regions[i].source;
        pieces list = {0};
        if (!we_grad_wants(g, source) || met_before(command, i))
            continue;
        we_tensor like = we_lower_tensor(g->l, source);
        exchange(command, source, of_out, &list, g->l);
        if (g->l->status == WE_OK)
            we_grad_add(g, source, we_grad_scatter(g->l, list.at, list.count, &like));
        we_memory_free(list.at);
    }
}
