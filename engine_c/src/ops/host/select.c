/* Results as large as the data say: the places, the kinds and the choice of elements. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"

static bool is_set(const we_view *x, int64_t i) {
    return x->dtype == WE_STRING ? ((const char *const *)x->data)[i] && ((const char *const *)x->data)[i][0]
                                 : we_view_number(x, i) != 0;
}

we_status we_host_nonzero(const we_host *host) {
    const we_view *x;
    int64_t count = 0, *to, strides[WE_MAX_RANK];
    WE_TRY(we_host_tensor(host, 0, &x));
    int64_t elements = we_view_elements(x), stride = 1;
    for (int64_t i = 0; i < elements; i++)
        count += is_set(x, i);
    int64_t dims[2] = {x->rank, count};
    WE_TRY(we_host_make(host, 0, WE_I64, 2, dims, &to));
    for (int32_t d = x->rank; d-- > 0;) {
        strides[d] = stride;
        stride *= x->dims[d];
    }
    int64_t n = 0;
    for (int64_t i = 0; i < elements; i++) {
        if (!is_set(x, i))
            continue;
        for (int32_t d = 0; d < x->rank; d++)
            to[d * count + n] = i / strides[d] % x->dims[d];
        n++;
    }
    return WE_OK;
}

we_status we_host_compress(const we_host *host) {
    const we_view *x, *wanted;
    we_along all;
    int32_t axis = 0;
    WE_TRY(we_host_tensor(host, 0, &x));
    WE_TRY(we_host_typed(host, 1, WE_BOOL, &wanted));
    if (wanted->rank != 1)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the condition must have rank 1, not %d",
                            (int)wanted->rank);
    bool flat = !we_node_attr(host->node, "axis");
    we_view out = {.dtype = x->dtype, .rank = 1};
    if (flat) {
        all = (we_along){1, we_view_elements(x), 1};
    } else {
        WE_TRY(we_host_axis(host, we_node_int(host->node, "axis", 0), x->rank, &axis));
        all = we_view_along(x, axis);
        out = *x;
    }
    int64_t length = wanted->dims[0], kept = 0;
    const uint8_t *flags = wanted->data;
    for (int64_t i = 0; i < length; i++)
        kept += flags[i] != 0;
    if (length > all.n)
        return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT, "%lld conditions for %lld rows", (long long)length,
                            (long long)all.n);
    out.dims[axis] = kept;
    size_t run = (size_t)all.inner * we_dtype_size(x->dtype);
    char *to;
    WE_TRY(we_host_make(host, 0, x->dtype, out.rank, out.dims, &to));
    for (int64_t o = 0; o < all.outer && run; o++) {
        for (int64_t i = 0; i < length; i++) {
            if (!flags[i])
                continue;
            memcpy(to, (const char *)x->data + (size_t)(o * all.n + i) * run, run);
            to += run;
        }
    }
    return WE_OK;
}

/* ---- Unique ---- */

/* Slices of a tensor along one axis, or its elements. */
typedef struct slices {
    const we_view *x;
    we_along along;
} slices;

static int compare_elements(const we_view *x, int64_t a, int64_t b) {
    if (x->dtype == WE_STRING) {
        const char *p = ((const char *const *)x->data)[a], *q = ((const char *const *)x->data)[b];
        return strcmp(p ? p : "", q ? q : "");
    }
    if (x->dtype == WE_I64 || x->dtype == WE_U64) { /* a double does not hold them all */
        int64_t p = we_view_integer(x, a), q = we_view_integer(x, b);
        if (x->dtype == WE_U64)
            return (uint64_t)p<(uint64_t)q ? -1 : (uint64_t)p>(uint64_t) q;
        return p < q ? -1 : p > q;
    }
    double p = we_view_number(x, a), q = we_view_number(x, b);
    if (isnan(p) || isnan(q)) /* NaN comes last and is no different from another */
        return isnan(p) - isnan(q);
    return p < q ? -1 : p > q;
}

static int compare_slices(const slices *s, int64_t a, int64_t b) {
    for (int64_t o = 0; o < s->along.outer; o++) {
        for (int64_t i = 0; i < s->along.inner; i++) {
            int64_t base = o * s->along.n * s->along.inner + i;
            int order = compare_elements(s->x, base + a * s->along.inner, base + b * s->along.inner);
            if (order)
                return order;
        }
    }
    return 0;
}

/* Merge sort of slice numbers; stable, so that the first of equals stays first. `spare` is as long. */
static void sort_slices(const slices *s, int64_t *order, int64_t *spare, int64_t count) {
    if (count < 2)
        return;
    int64_t half = count / 2, a = 0, b = half;
    sort_slices(s, order, spare, half);
    sort_slices(s, order + half, spare, count - half);
    for (int64_t i = 0; i < count; i++)
        spare[i] =
            b == count || (a < half && compare_slices(s, order[a], order[b]) <= 0) ? order[a++] : order[b++];
    memcpy(order, spare, (size_t)count * sizeof *order);
}

static int by_value(const void *a, const void *b) {
    int64_t p = *(const int64_t *)a, q = *(const int64_t *)b;
    return p < q ? -1 : p > q;
}

/* Scratch: each slice's place in sorted order, the first slice of each kind, and from first slice to kind. */
typedef struct kinds {
    int64_t *order, *spare, *first, *kind_of;
    int64_t count;
} kinds;

/* Group equal slices. kind_of: per slice the number of its kind in the order wanted. */
static void group(const slices *s, bool sorted, kinds *k) {
    int64_t n = s->along.n, *lead = k->spare; /* per slice, the first slice equal to it */
    for (int64_t i = 0; i < n; i++)
        k->order[i] = i;
    sort_slices(s, k->order, k->spare, n);
    k->count = 0;
    for (int64_t i = 0; i < n; i++) {
        bool fresh = i == 0 || compare_slices(s, k->order[i - 1], k->order[i]) != 0;
        if (fresh)
            k->first[k->count++] = k->order[i];
        lead[k->order[i]] = k->first[k->count - 1];
    }
    if (!sorted)
        qsort(k->first, (size_t)k->count, sizeof *k->first, by_value);
    for (int64_t i = 0; i < k->count; i++)
        k->order[k->first[i]] = i;
    for (int64_t i = 0; i < n; i++)
        k->kind_of[i] = k->order[lead[i]];
}

static we_status list_output(const we_host *host, int32_t index, int64_t count, int64_t **out) {
    return we_host_make(host, index, WE_I64, 1, &count, out);
}

static we_status write_unique(const we_host *host, const slices *s, const we_view *shape, int32_t axis,
                              const kinds *k) {
    we_view y = *shape;
    char *to;
    int64_t *list, outputs = host->node->output_count;
    size_t run = (size_t)s->along.inner * we_dtype_size(s->x->dtype);
    y.dims[axis] = k->count;
    WE_TRY(we_host_make(host, 0, y.dtype, y.rank, y.dims, &to));
    for (int64_t o = 0; o < s->along.outer && run; o++) {
        for (int64_t i = 0; i < k->count; i++, to += run)
            memcpy(to, (const char *)s->x->data + (size_t)(o * s->along.n + k->first[i]) * run, run);
    }
    if (outputs > 1) {
        WE_TRY(list_output(host, 1, k->count, &list));
        for (int64_t i = 0; i < k->count; i++)
            list[i] = k->first[i];
    }
    if (outputs > 2) {
        WE_TRY(list_output(host, 2, s->along.n, &list));
        for (int64_t i = 0; i < s->along.n; i++)
            list[i] = k->kind_of[i];
    }
    if (outputs > 3) {
        WE_TRY(list_output(host, 3, k->count, &list));
        for (int64_t i = 0; i < s->along.n; i++)
            list[k->kind_of[i]]++;
    }
    return WE_OK;
}

we_status we_host_unique(const we_host *host) {
    const we_view *x;
    int32_t axis = 0;
    WE_TRY(we_host_tensor(host, 0, &x));
    slices s = {x, {1, we_view_elements(x), 1}};
    we_view shape = {.dtype = x->dtype, .rank = 1};
    if (we_node_attr(host->node, "axis")) {
        WE_TRY(we_host_axis(host, we_node_int(host->node, "axis", 0), x->rank, &axis));
        s.along = we_view_along(x, axis);
        shape = *x;
    }
    size_t bytes = (size_t)s.along.n * sizeof(int64_t);
    kinds k = {.order = we_memory_new(bytes),
               .spare = we_memory_new(bytes),
               .first = we_memory_new(bytes),
               .kind_of = we_memory_new(bytes)};
    we_status status;
    if (k.order && k.spare && k.first && k.kind_of) {
        group(&s, we_node_int(host->node, "sorted", 1) != 0, &k);
        status = write_unique(host, &s, &shape, axis, &k);
    } else {
        status = we_error_no_memory(host->err);
    }
    we_memory_free(k.order);
    we_memory_free(k.spare);
    we_memory_free(k.first);
    we_memory_free(k.kind_of);
    return status;
}

/* ---- Non-maximum suppression ---- */

typedef struct candidate {
    float score;
    int64_t box;
} candidate;

static int best_first(const void *a, const void *b) {
    const candidate *p = a, *q = b;
    if (p->score != q->score)
        return p->score > q->score ? -1 : 1;
    return p->box < q->box ? -1 : p->box > q->box;
}

typedef struct corners {
    float low[2], high[2];
} corners;

static corners corners_of(const float *box, bool centred) {
    corners c;
    for (int i = 0; i < 2; i++) {
        float a = centred ? box[1 - i] - box[3 - i] / 2 : box[i],
              b = centred ? box[1 - i] + box[3 - i] / 2 : box[i + 2];
        c.low[i] = a < b ? a : b;
        c.high[i] = a < b ? b : a;
    }
    return c;
}

static float area(const corners *c) {
    return (c->high[0] - c->low[0]) * (c->high[1] - c->low[1]);
}

/* Intersection over union of two boxes. */
static float overlap(const float *a, const float *b, bool centred) {
    corners p = corners_of(a, centred), q = corners_of(b, centred), both;
    for (int i = 0; i < 2; i++) {
        both.low[i] = p.low[i] > q.low[i] ? p.low[i] : q.low[i];
        both.high[i] = p.high[i] < q.high[i] ? p.high[i] : q.high[i];
        if (both.high[i] <= both.low[i])
            return 0;
    }
    float shared = area(&both), joined = area(&p) + area(&q) - shared;
    return joined > 0 ? shared / joined : 0;
}

typedef struct suppression {
    const float *boxes, *scores; /* [boxes, 4] and [boxes] of one batch and class */
    int64_t count, most;
    float overlap, least;
    bool scored, centred;
} suppression;

/* Boxes kept, best first, into kept[]; returns how many. `room` has one entry per box. */
static int64_t suppress(const suppression *s, candidate *room, int64_t *kept) {
    int64_t candidates = 0, count = 0;
    for (int64_t b = 0; b < s->count; b++) {
        if (!isnan(s->scores[b]) && (!s->scored || s->scores[b] > s->least))
            room[candidates++] = (candidate){s->scores[b], b};
    }
    qsort(room, (size_t)candidates, sizeof *room, best_first);
    for (int64_t c = 0; c < candidates && count < s->most; c++) {
        bool clear = true;
        for (int64_t k = 0; clear && k < count; k++)
            clear = overlap(s->boxes + 4 * room[c].box, s->boxes + 4 * kept[k], s->centred) <= s->overlap;
        if (clear)
            kept[count++] = room[c].box;
    }
    return count;
}

static we_status threshold(const we_host *host, int32_t index, float *out, bool *given) {
    const we_view *view;
    *given = we_host_input(host, index) != NULL;
    if (!*given)
        return WE_OK;
    WE_TRY(we_host_typed(host, index, WE_F32, &view));
    if (we_view_elements(view) != 1)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "input %d must be one number", (int)index);
    *out = ((const float *)view->data)[0];
    return WE_OK;
}

/* Grows a list of [batch, class, box] rows. */
typedef struct rows {
    int64_t (*items)[3];
    size_t count, room;
} rows;

static we_status suppress_all(const we_host *host, const we_view *boxes, const we_view *scores, suppression s,
                              candidate *room, int64_t *kept, rows *out) {
    for (int64_t b = 0; b < scores->dims[0]; b++) {
        for (int64_t c = 0; c < scores->dims[1]; c++) {
            s.boxes = (const float *)boxes->data + b * s.count * 4;
            s.scores = (const float *)scores->data + (b * scores->dims[1] + c) * s.count;
            int64_t count = suppress(&s, room, kept);
            for (int64_t k = 0; k < count; k++) {
                if (!we_memory_grow((void **)&out->items, &out->room, out->count, sizeof *out->items))
                    return we_error_no_memory(host->err);
                int64_t *row = out->items[out->count++];
                row[0] = b;
                row[1] = c;
                row[2] = kept[k];
            }
        }
    }
    return WE_OK;
}

we_status we_host_nms(const we_host *host) {
    const we_view *boxes, *scores;
    bool given;
    suppression s = {.centred = we_node_int(host->node, "center_point_box", 0) != 0};
    WE_TRY(we_host_typed(host, 0, WE_F32, &boxes));
    WE_TRY(we_host_typed(host, 1, WE_F32, &scores));
    WE_TRY(we_host_integer(host, 2, 0, &s.most));
    WE_TRY(threshold(host, 3, &s.overlap, &given));
    WE_TRY(threshold(host, 4, &s.least, &s.scored));
    if (boxes->rank != 3 || scores->rank != 3 || boxes->dims[2] != 4 || boxes->dims[0] != scores->dims[0] ||
        boxes->dims[1] != scores->dims[2])
        return WE_HOST_FAIL(host, WE_INVALID_MODEL,
                            "boxes [batch, n, 4] and scores [batch, classes, n] are required");
    s.count = boxes->dims[1];
    candidate *room = we_memory_new((size_t)s.count * sizeof *room);
    int64_t *kept = we_memory_new((size_t)s.count * sizeof *kept);
    rows found = {0};
    we_status status = room && kept ? suppress_all(host, boxes, scores, s, room, kept, &found)
                                    : we_error_no_memory(host->err);
    int64_t dims[2] = {(int64_t)found.count, 3}, *to;
    if (status == WE_OK)
        status = we_host_make(host, 0, WE_I64, 2, dims, &to);
    if (status == WE_OK && found.count)
        memcpy(to, found.items, found.count * sizeof *found.items);
    we_memory_free(found.items);
    we_memory_free(kept);
    we_memory_free(room);
    return status;
}
